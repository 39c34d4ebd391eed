"""Native routes: declared with FastAPI, which reads everything but the body."""

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Final, cast

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.params import Depends
from fastapi.routing import APIRoute

from pilothouse import errors
from pilothouse.api.v1.dependencies import Check
from pilothouse.api.v1.models import Body, Error
from pilothouse.errors import InvalidArgument
from pilothouse.http.errors import describe_error, mark_native
from pilothouse.http.json_bodies import explain_parameter, read_json
from pilothouse.http.requests import refuse_nul

#: FastAPI would take a body of any other type for bytes.
_JSON: Final = frozenset({"application/json"})
Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class NativeRoute(APIRoute):
    """A route whose checks come before its body, and whose body is read at bounded cost.

    FastAPI would read a body of any size, on the event loop, before the first dependency, and report every error in it.
    """

    def __init__(
        self, path: str, endpoint: Callable[..., Any], *, dependencies: Sequence[Depends] = (), **declared: Any
    ) -> None:
        self._checks = [dependency.dependency for dependency in dependencies if isinstance(dependency, Check)]
        others = [dependency for dependency in dependencies if not isinstance(dependency, Check)]
        super().__init__(path, endpoint, dependencies=others, **declared)

    @property
    def body(self) -> type[Body] | None:
        """The model of the body, if the route takes one."""
        return cast("type[Body]", self.body_field.field_info.annotation) if self.body_field is not None else None

    def get_route_handler(self) -> Handler:
        """Return FastAPI's handler behind the checks and the reading of the body."""
        handle, body, field = super().get_route_handler(), self.body, self.body_field
        default = None if field is None or field.field_info.is_required() else field.default

        async def check_and_handle(request: Request) -> Response:
            mark_native(request)
            request = _ReadRequest(request.scope, request.receive)
            await refuse_nul(request)
            for check in self._checks:
                await check(request)  # type: ignore[misc]  # a check has a function
            if body is not None:
                request.model = await read_json(request, body, limits=body.limits, types=_JSON, default=default)
            try:
                return await handle(request)
            except RequestValidationError as error:
                raise InvalidArgument(explain_parameter(error.errors()[0])) from error

        return check_and_handle


class _ReadRequest(Request):
    """A request whose body has been read: FastAPI takes the model as it is."""

    model: Body | None = None

    async def json(self) -> Any:
        return self.model


#: The model itself is declared once for each route, by ``_GATEWAY``: a validator of its own for each status costs
#: megabytes.
_ERROR: Final = {"application/json": {"schema": {"$ref": f"#/components/schemas/{Error.__name__}"}}}


def error_responses(*kinds: type[errors.PilothouseError]) -> dict[int | str, dict[str, Any]]:
    """Return the ``responses`` of a route or router that answers these errors."""
    described = dict(describe_error(kind) for kind in reversed(kinds))
    return {status: {"description": text, "content": _ERROR} for status, text in sorted(described.items())}


#: What every route may answer.
_ALWAYS = error_responses(errors.InvalidRequest, errors.BodyTooLarge, errors.Busy, errors.PilothouseError)
_NOT_FOR_EVERYBODY = error_responses(
    errors.NotAuthenticated, errors.Forbidden, errors.NotFound, errors.ProviderUnavailable
)
_GATEWAY: Final[dict[int | str, dict[str, Any]]] = {
    "default": {"model": Error, "description": "An error of the gateway, before any route is reached."}
}


def native_router(
    prefix: str, *, tag: str, public: bool = False, kinds: Sequence[type[errors.PilothouseError]] = ()
) -> APIRouter:
    """Return a router of the native API; ``public``: its routes need no credentials. ``kinds``: errors of all."""
    declared = {**_ALWAYS, **({} if public else _NOT_FOR_EVERYBODY), **error_responses(*kinds)}
    return APIRouter(
        prefix=prefix,
        tags=[tag],
        route_class=NativeRoute,
        strict_content_type=False,  # without a Content-Type a body is JSON too
        responses={**dict(sorted(declared.items())), **_GATEWAY},
    )
