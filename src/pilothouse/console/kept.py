"""What is kept of a form whose session had ended: by the page of the log-in, and for the user of that session alone.

The page has it sealed, in one field: a kubeconfig or values of a release are in no page that another user can look at.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from starlette.requests import Request

from pilothouse.console import csrf
from pilothouse.console.requests import read_fields
from pilothouse.console.session import session_of
from pilothouse.errors import Forbidden, InvalidRequest
from pilothouse.http.json_bodies import FORM, LOGIN
from pilothouse.http.requests import service_of
from pilothouse.services.identity.sealed_forms import SealedForms

#: The field of the log-in that has the sealed form.
FIELD: Final = "kept"
#: Among the sealed fields, whose names have no such sign: the proof of that page, and whether passwords were left out.
_PROOF: Final = "?proof"
_LACKS: Final = "?lacks"
#: The log-in sends it once more, with fields of its own.
_LARGEST: Final = FORM.size - LOGIN.size


@dataclass(frozen=True)
class Kept:
    """The fields of a form, and the proof by which it is found whose it was; without one nothing is kept.

    ``lacks``: a password was typed too, which no page may show. ``sealed``: all of it, as the log-in carries it.
    """

    fields: Mapping[str, str] = field(default_factory=dict, repr=False)
    proof: str = field(default="", repr=False)
    lacks: bool = False
    sealed: str = field(default="", repr=False)


NOTHING: Final = Kept()


async def read_ended(request: Request) -> Kept:
    """Return what a form of the session that has ended sent; nothing if another site may have, or nobody knows who."""
    if request.scope["state"]["body_size"] > FORM.size:
        return NOTHING
    try:
        fields = await read_fields(request)
        proof = fields.pop(csrf.FIELD, "")
        csrf.check(request, session_of(request), proof)
    except (InvalidRequest, Forbidden):
        return NOTHING
    shown = {name: text for name, text in fields.items() if "password" not in name or not text}
    lacks = len(shown) < len(fields)
    carried = shown | {_PROOF: proof} | ({_LACKS: "yes"} if lacks else {})
    sealed = service_of(request, SealedForms).seal(carried)
    return Kept(shown, proof, lacks=lacks, sealed=sealed) if len(sealed) <= _LARGEST else NOTHING


def read_carried(request: Request, fields: Mapping[str, str]) -> Kept:
    """Return what the form of the log-in carries."""
    sealed = fields.get(FIELD, "")
    carried = service_of(request, SealedForms).open(sealed) if sealed else {}
    proof, lacks = carried.pop(_PROOF, ""), carried.pop(_LACKS, "")
    return Kept(carried, proof, lacks=bool(lacks), sealed=sealed) if proof else NOTHING


def is_of(request: Request, kept: Kept, user_id: str) -> bool:
    """Return True if the user has sent it: the browser still has the cookie of the session that has ended."""
    return csrf.is_of(session_of(request), kept.proof, user_id)
