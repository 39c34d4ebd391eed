"""Forms of pages that have several: carried out, and refusals shown in the part of the page that the form is in."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from pilothouse.console.rendering import refusal
from pilothouse.console.requests import read_form, see_other
from pilothouse.errors import InvalidRequest, PilothouseError

Fields = dict[str, str]
Order = Callable[[Request, Fields], Awaitable[Response | str]]
Endpoint = Callable[[Request], Awaitable[Response]]


def writes(show: Callable[..., Awaitable[Response]], part: str, order: Order) -> Endpoint:
    """Return what carries out a form: to the answer or the path that the order gives, or the page with the refusal.

    Nothing that was typed is lost but passwords.
    """

    async def write(request: Request) -> Response:
        fields = await read_form(request)
        try:
            answer = await order(request, fields)
        except PilothouseError as error:
            kept = {name: value for name, value in fields.items() if "password" not in name}
            return await show(request, refused=refusal(request, error), part=part, typed=kept)
        return see_other(answer) if isinstance(answer, str) else answer

    return write


def require_typed_name(fields: Fields, name: str, *, what: str, to: str) -> None:
    """Raise InvalidRequest unless the name of what is to be removed was typed."""
    if fields.get("confirm", "").strip() != name.strip():
        raise InvalidRequest(f"confirm: type the {what}'s name, {name}, to {to} it")
