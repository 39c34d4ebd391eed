"""Versions of the identity API, without authentication, as in the vendor's IAM.

OpenStack's clients ask before they log in, and keystoneauth's generic plugins wait forever on a 401 here.

Source: IAM API reference, "Querying the Version Information of Keystone APIs".
"""

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse

from pilothouse.http.middleware.session import CONSOLE
from pilothouse.http.requests import json_response

router = APIRouter()
PATHS: Final = frozenset({"/", "/v3", "/v3/"})


@router.get("/")
async def list_versions(request: Request) -> Response:
    """Return the versions of the identity API; a browser, which asks for HTML, is led to the console."""
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse(f"{request.app.state.root_path}{CONSOLE}/", status_code=302, headers={"Vary": "Accept"})
    return json_response({"versions": {"values": [_version(request)]}}, status_code=300)


@router.get("/v3")
@router.get("/v3/")
async def show_version(request: Request) -> Response:
    """Return the one version of the identity API."""
    return json_response({"version": _version(request)})


def _version(request: Request) -> dict[str, Any]:
    """Return the newest version that the vendor's IAM names too, at the address that the client used."""
    return {
        "id": "v3.6",
        "status": "stable",
        "updated": "2016-04-04T00:00:00Z",
        "links": [{"rel": "self", "href": f"{str(request.base_url).rstrip('/')}/v3/"}],
        "media-types": [{"base": "application/json", "type": "application/vnd.openstack.identity-v3+json"}],
    }
