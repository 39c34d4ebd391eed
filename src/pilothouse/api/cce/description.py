"""OpenAPI document of the compatible API, for people, generators and tests.

It is maintained by hand, not generated from the code: what the vendor's clients rely on is a contract, and a change of
the code must not change it silently.
"""

import re
from functools import cache
from importlib import resources
from typing import Any, Final

import orjson
import yaml
from fastapi import APIRouter, Response

from pilothouse import __version__
from pilothouse.http.pages import Page

PATH: Final = "/api/v1/compatible-openapi.json"

#: The Autopilot twins by the beginning of a path: the same operations, named with "Autopilot" after their verb.
_TWINS: Final = {"/cce/cam/v3/": "/autopilot/cam/v3/", "/v2/charts": "/autopilot/v2/charts"}
_VERB: Final = re.compile(r"^[A-Z][a-z]+")
_METHODS: Final = frozenset({"get", "put", "post", "delete", "head"})


@cache
def openapi() -> dict[str, Any]:
    """Return the document, including the Autopilot routes; it is shared, so callers must not change it."""
    written = resources.files("pilothouse.api.cce").joinpath("description.yaml").read_text(encoding="utf-8")
    document: dict[str, Any] = yaml.safe_load(written)
    del document["x-answers"]  # only an anchor for the answers that all operations have
    document["info"]["version"] = __version__
    for path, item in list(document["paths"].items()):
        for beginning, twin in _TWINS.items():
            if path.startswith(beginning):
                document["paths"][twin + path.removeprefix(beginning)] = _twin(item)
    return document


def routes() -> APIRouter:
    """Return the route of the document; it needs no credentials."""
    router = APIRouter()
    page = Page(lambda: orjson.dumps(openapi()))

    @router.get(PATH)
    async def show_compatible_api() -> Response:
        """Return the OpenAPI document of the API that the vendor's clients use."""
        return await page.answer()

    return router


def _twin(item: dict[str, Any]) -> dict[str, Any]:
    return {
        key: {**value, "operationId": _VERB.sub(r"\g<0>Autopilot", value["operationId"])} if key in _METHODS else value
        for key, value in item.items()
    }
