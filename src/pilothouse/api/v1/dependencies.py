"""Dependencies of native routes: the caller, the request id, services, and checks before the body."""

from typing import Annotated, Any, TypeVar

from fastapi import Depends, Request, Security
from fastapi.params import Depends as Dependency
from fastapi.security import APIKeyHeader

from pilothouse.http.requests import caller_of, request_id_of, service_of
from pilothouse.services.identity.bootstrap import Caller

T = TypeVar("T")

# The gateway has verified the credentials already; here they are only declared.
_TOKEN = Security(APIKeyHeader(name="X-Auth-Token", scheme_name="token", auto_error=False))
_SIGNATURE = Security(APIKeyHeader(name="Authorization", scheme_name="signature", auto_error=False))


class Check(Dependency):
    """A dependency in a route's ``dependencies`` that is checked before the route's body is read.

    Its function takes the request. FastAPI would read the body first, and so parse bodies of callers without
    permission.
    """


def allowed(action: str) -> Check:
    """Return the check that the caller's roles in its project allow the action."""

    async def check(request: Request) -> None:
        caller_of(request).require_somewhere(action)  # the service knows where

    return Check(check)


def allowed_in_account(action: str) -> Check:
    """Return the check that the caller's roles in the whole account allow the action."""

    async def check(request: Request) -> None:
        caller_of(request).require_in_account(action)

    return Check(check)


def service(kind: type[T]) -> Any:
    """Return the dependency on the application's service of that class."""

    async def find(request: Request) -> T:
        return service_of(request, kind)

    return Depends(find)


async def _caller(
    request: Request, _token: Annotated[str | None, _TOKEN], _signature: Annotated[str | None, _SIGNATURE]
) -> Caller:
    return caller_of(request)


async def _request_id(request: Request) -> str:
    return request_id_of(request)


#: Who makes the request, as the gateway verified it. A route without one needs no credentials.
CurrentCaller = Annotated[Caller, Depends(_caller)]
RequestId = Annotated[str, Depends(_request_id)]
