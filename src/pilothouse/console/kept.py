"""What is kept of a form whose session had ended: by the page of the log-in, and for the user of that session alone."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import Request

from pilothouse.console import csrf
from pilothouse.console.requests import read_fields
from pilothouse.console.session import session_of
from pilothouse.errors import Forbidden, InvalidRequest
from pilothouse.http.json_bodies import FORM, LOGIN

#: Names of fields of the log-in that were meant for another page.
_FIELDS: Final = "kept."
#: The proof of that page, and whether passwords were left out.
_PROOF: Final = "kept_proof"
_LACKS: Final = "kept_lacks"
#: The log-in sends it once more, with fields of its own.
_LARGEST: Final = FORM.size - LOGIN.size


@dataclass(frozen=True)
class Kept:
    """The fields of a form, and the proof by which it is found whose it was; without one nothing is kept.

    ``lacks``: a password was typed too, which no page may show.
    """

    fields: Mapping[str, str] = field(default_factory=dict, repr=False)
    proof: str = field(default="", repr=False)
    lacks: bool = False

    @property
    def hidden(self) -> dict[str, str]:
        """Return it as fields of the log-in."""
        if not self.proof:
            return {}
        found = {f"{_FIELDS}{name}": text for name, text in self.fields.items()} | {_PROOF: self.proof}
        return found | ({_LACKS: "yes"} if self.lacks else {})


NOTHING: Final = Kept()


async def read_ended(request: Request) -> Kept:
    """Return what a form of the session that has ended sent; nothing if another site may have, or nobody knows who."""
    if request.scope["state"]["body_size"] > _LARGEST:
        return NOTHING
    try:
        fields = await read_fields(request)
        proof = fields.pop(csrf.FIELD, "")
        csrf.check(request, session_of(request), proof)
    except (InvalidRequest, Forbidden):
        return NOTHING
    shown = {name: text for name, text in fields.items() if "password" not in name or not text}
    return Kept(shown, proof, lacks=len(shown) < len(fields))


def read_carried(fields: Mapping[str, str]) -> Kept:
    """Return what the form of the log-in carries."""
    carried = {name.removeprefix(_FIELDS): text for name, text in fields.items() if name.startswith(_FIELDS)}
    return Kept(carried, fields.get(_PROOF, ""), lacks=_LACKS in fields)


def is_of(request: Request, kept: Kept, user_id: str) -> bool:
    """Return True if the user has sent it: the browser still has the cookie of the session that has ended."""
    return csrf.is_of(session_of(request), kept.proof, user_id)
