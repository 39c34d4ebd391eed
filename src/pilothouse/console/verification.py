"""Which charts the project takes, and whose signatures count: its keys for uploads, and those of its sources."""

from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from pilothouse.console.faults import tell
from pilothouse.console.forms import Fields, read_keys, writes
from pilothouse.console.rendering import page
from pilothouse.console.requests import caller_of, here, wrong
from pilothouse.console.texts import gettext
from pilothouse.console.value_forms import MOST_CHARTS
from pilothouse.http.errors import Refusal
from pilothouse.http.requests import request_id_of, service_of
from pilothouse.services.charts.archives import Charts
from pilothouse.services.charts.signatures import MOST_BYTES
from pilothouse.services.charts.trust import SET_TRUST, ChangeTrust, Trust, digest_of

_VERIFICATION: Final = "/verification"


async def show_verification(
    request: Request, *, refused: Refusal | None = None, part: str = "", typed: Fields | None = None
) -> Response:
    """Show whether the project takes verified charts only, and whose signatures count."""
    caller = caller_of(request)
    trust = await service_of(request, Trust).show(caller)
    uploaded, unsigned = (0, 0) if trust.verified_only else await _count_unsigned(request)
    return await page(
        request,
        "verification.html",
        refused=refused,
        part=part,
        faults=tell(refused, "keys"),
        typed=typed or {},
        trust=trust,
        uploaded=uploaded,
        unsigned=unsigned,
        shown=digest_of(trust),
        at=f"{here(caller)}{_VERIFICATION}",
        may_change=caller.may(SET_TRUST),
    )


async def _count_unsigned(request: Request) -> tuple[int, int]:
    """Return how many of the newest uploaded charts there are, and how many of them no trusted key has signed."""
    caller, charts = caller_of(request), service_of(request, Charts)
    if not caller.may("cce:chart:list"):
        return 0, 0
    found = await charts.list_versions(caller, name="", version="", digest="", limit=MOST_CHARTS, pulled=False)
    signed = await charts.list_signers(caller, [version.digest for version in found])
    return len(found), sum(chart.digest not in signed for chart in found)


async def _set_policy(request: Request, fields: Fields) -> str:
    if fields.get("take") not in {"verified", "all"}:
        raise wrong("take", gettext("choose whether to take verified charts only, or all"))
    return await _change(request, fields, ChangeTrust(verified_only=fields["take"] == "verified"), part="policy")


async def _set_keys(request: Request, fields: Fields) -> str:
    return await _change(request, fields, ChangeTrust(keys=read_keys(fields, most=MOST_BYTES)), part="keys")


async def _change(request: Request, fields: Fields, change: ChangeTrust, *, part: str) -> str:
    caller, shown = caller_of(request), fields.get("shown", "")
    await service_of(request, Trust).change(caller, change, request_id=request_id_of(request), shown=shown)
    return f"{here(caller)}{_VERIFICATION}#{part}"


ROUTES: Final = [
    Route(_VERIFICATION, show_verification, methods=["GET"]),
    Route(f"{_VERIFICATION}/policy", writes(show_verification, "policy", _set_policy), methods=["POST"]),
    Route(f"{_VERIFICATION}/keys", writes(show_verification, "keys", _set_keys), methods=["POST"]),
]
