"""Forms of pages that have several: carried out, and refusals shown in the part of the page that the form is in."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response

from pilothouse.console.rendering import refusal
from pilothouse.console.requests import read_form, see_other, too_long, wrong
from pilothouse.errors import PilothouseError

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


def read_keys(fields: Fields, *, most: int) -> str:
    """Return the public keys of a form with the line ends that were typed."""
    keys = fields.get("keys", "").replace("\r\n", "\n").strip()
    if len(keys) > most:
        raise too_long("keys", most)
    return keys


def require_typed_name(fields: Fields, name: str, *, ask: str) -> None:
    """Raise InvalidRequest, which asks for it, unless the name of what is to be removed was typed."""
    if fields.get("confirm", "").strip() != name.strip():
        raise wrong("confirm", ask)
