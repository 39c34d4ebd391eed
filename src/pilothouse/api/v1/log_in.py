"""Log-in from a terminal: where, and a token for what the identity provider gave. Needs no credentials."""

from typing import Annotated, Final

from fastapi import Request
from pydantic import Field

from pilothouse import errors
from pilothouse.api.v1.dependencies import RequestId, service
from pilothouse.api.v1.models import Body, Seconds, View
from pilothouse.api.v1.routing import error_responses, native_router
from pilothouse.http.requests import source_of
from pilothouse.services.identity.device_log_in import DeviceLogIns, GivenTokens

PATH: Final = "/api/v1/login"
router = native_router(PATH, tag="log-in", public=True)
DeviceService = Annotated[DeviceLogIns, service(DeviceLogIns)]
_REFUSALS = error_responses(
    errors.NotAuthenticated, errors.Forbidden, errors.NotFound, errors.Busy, errors.ProviderUnavailable
)


class DeviceProviderView(View):
    """An identity provider at which a person logs in from a terminal, by device authorization (RFC 8628).

    ``client_id`` is the program's client there, without a secret; ``scopes`` is what it asks for.
    """

    name: str
    title: str
    issuer: str
    client_id: str
    scopes: list[str]


class LogInView(View):
    """How people can log in from a terminal, beside passwords and access keys."""

    providers: list[DeviceProviderView]


class LogIn(Body):
    """The tokens that the provider of that name gave to its client for terminals."""

    provider: Annotated[str, Field(max_length=100)]
    id_token: str
    access_token: Annotated[str, Field(min_length=1, max_length=16 * 1024, pattern=r"^[!-~]+$")]


class LoggedInView(View):
    """A token of no project, which `POST /v3/auth/tokens` exchanges for one of a project; it is shown only now."""

    token: str
    expires_at: Seconds
    user_name: str
    domain_name: str


@router.get("")
async def show_log_in(log_ins: DeviceService) -> LogInView:
    """Show where people log in from a terminal; needs no credentials."""
    return LogInView.model_validate({"providers": log_ins.clients})


@router.post("", status_code=201, responses=_REFUSALS)
async def log_in(body: LogIn, request: Request, log_ins: DeviceService, request_id: RequestId) -> LoggedInView:
    """Issue a token to the person of whom the provider's tokens are; needs no credentials."""
    issued = await log_ins.log_in(
        body.provider,
        GivenTokens(body.id_token, body.access_token),
        source=source_of(request),
        request_id=request_id,
    )
    row = issued.row
    return LoggedInView(
        token=issued.text, expires_at=row.expires_at, user_name=row.user_name, domain_name=row.domain_name
    )
