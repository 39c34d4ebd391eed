"""What is wrong in a form, by field: in the words of its label, and not by the name that the API has for the field."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from pilothouse.console.texts import Texts, gettext_noop
from pilothouse.console.value_problems import ValueProblem
from pilothouse.errors import PilothouseError, SeveralWrong
from pilothouse.http.errors import Refusal
from pilothouse.redaction import redact

#: The labels of fields, and of what an address or a hidden field carries.
LABELS: Final = Texts({
    "account": gettext_noop("Account"),
    "again_password": gettext_noop("The same again"),
    "ca": gettext_noop("Certificates"),
    "chart": gettext_noop("Chart"),
    "cluster": gettext_noop("Cluster"),
    "confirm": gettext_noop("To confirm"),
    "context": gettext_noop("Context"),
    "crds": gettext_noop("CRDs of the chart"),
    "current_password": gettext_noop("Current password"),
    "description": gettext_noop("Description"),
    "do": gettext_noop("What to do"),
    "document": gettext_noop("Document"),
    "expires": gettext_noop("Last day"),
    "from": gettext_noop("Revision"),
    "groups": gettext_noop("Groups of that user"),
    "keys": gettext_noop("Public keys"),
    "kubeconfig": gettext_noop("Kubeconfig"),
    "layer": gettext_noop("Which values"),
    "marker": gettext_noop("Page"),
    "mode": gettext_noop("Values that the release has"),
    "name": gettext_noop("Name"),
    "namespace": gettext_noop("Namespace"),
    "namespaces": gettext_noop("Namespaces"),
    "new_password": gettext_noop("New password"),
    "order": gettext_noop("Operation"),
    "outcome": gettext_noop("Outcome"),
    "own_password": gettext_noop("Your own password"),
    "page": gettext_noop("Page"),
    "password": gettext_noop("Password"),
    "pod": gettext_noop("Pod"),
    "project": gettext_noop("Project"),
    "provider": gettext_noop("Identity provider"),
    "reason": gettext_noop("Reason"),
    "release": gettext_noop("Release"),
    "revision": gettext_noop("Revision"),
    "role": gettext_noop("Role"),
    "seen": gettext_noop("What this page shows"),
    "since": gettext_noop("From"),
    "state": gettext_noop("State"),
    "sure": gettext_noop("Administrator of the whole account"),
    "sync_seconds": gettext_noop("Synchronised"),
    "tail": gettext_noop("Lines"),
    "take": gettext_noop("Charts it takes"),
    "timeout_seconds": gettext_noop("At most, in seconds"),
    "to": gettext_noop("To revision"),
    "token": gettext_noop("Token"),
    "until": gettext_noop("To"),
    "url": gettext_noop("Address"),
    "user": gettext_noop("User to act as"),
    "username": gettext_noop("User name"),
    "values": gettext_noop("Values"),
    "verification": gettext_noop("Its charts are verified"),
    "version": gettext_noop("Version"),
    "wait": gettext_noop("Wait"),
    "whom": gettext_noop("User or group"),
})  # fmt: skip
#: What the API calls otherwise than the form; of others the last part counts: ``wall.user`` is ``user``.
_FORM_NAMES: Final = {
    "chart.id": "chart",
    "expires_at": "expires",
    "project_id": "project",
    "scope.project": "project",
    "to_revision": "to",
    "user_id": "whom",
    "verification_keys": "keys",
    "wall": "namespaces",
}
_PREFIXED: Final = re.compile(
    r"(?:dry run: |render: )?([a-z_]+(?:\.[a-z_]+)*)(?:\[[0-9]+\])?(?:, [a-z_]+(?:\.[a-z_]+)*)*: (.+)", re.DOTALL
)
#: Where in the values the error is.
_PLACED: Final = re.compile(r"(values), (line [0-9]+, column [0-9]+: .+)", re.DOTALL)
_INDEXED: Final = re.compile(r"([a-z_]+(?:\.[a-z_]+)*)\[[0-9]+\] (.+)", re.DOTALL)


@dataclass(frozen=True)
class Faults:
    """What is wrong in a form: all of it, what stands at which field, and lines of the values.

    ``rest``: some of it is about no field that the form shows.
    """

    text: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    lines: tuple[ValueProblem, ...] = ()
    rest: bool = False

    @property
    def field(self) -> str:
        """Return the first field if all that is wrong stands at fields; empty otherwise."""
        return "" if self.rest else next(iter(self.fields), "")


NO_FAULTS: Final = Faults()


def name_fields(refused: Refusal, error: PilothouseError, reword: Callable[[str], str]) -> Refusal:
    """Return the refusal with fields by their labels; ``fields`` has what is wrong with each, by the form's name."""
    errors = error.errors if isinstance(error, SeveralWrong) else [error]
    texts = [refused.text] if len(errors) == 1 else [redact(str(error)) for error in errors]
    found = [_split(reword(text)) for text in texts]
    said = "\n".join(f"{LABELS[name]}: {text}" if name else text for name, text in found)
    fields: dict[str, str] = {}
    for name, text in found:
        if name:
            fields[name] = f"{fields[name]}\n{text}" if name in fields else text
    return replace(refused, text=said, fields=fields, rest="\n".join(text for name, text in found if not name))


def _split(text: str) -> tuple[str, str]:
    """Return the form's name of the field that a text begins with, and what is said of it; no name if there is none."""
    named = _PREFIXED.fullmatch(text) or _PLACED.fullmatch(text) or _INDEXED.fullmatch(text)
    if named is None:
        return "", text
    name = _FORM_NAMES.get(named[1]) or named[1].rpartition(".")[2]
    return (name, named[2]) if name in LABELS else ("", text)


def tell(
    refused: Refusal | None,
    *shown: str,
    named: re.Pattern[str] | None = None,
    otherwise: str = "",
    names: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
) -> Faults:
    """Return what is wrong in a form, at those of its fields that are ``shown``.

    ``names``: what this form calls a field otherwise; ``labels``: what it is called there. ``named`` finds the field of
    a text that has it in a sentence; ``otherwise``: the field of all others, but of what is not known to be refused.
    """
    if refused is None:
        return NO_FAULTS
    texts = {(names or {}).get(name, name): text for name, text in refused.fields.items()}
    found = {name: f"{(labels or LABELS).get(name) or LABELS[name]}: {texts[name]}" for name in shown if name in texts}
    rest = bool(texts and refused.rest)
    if rest and otherwise:
        found, rest = {**found, otherwise: "\n".join(filter(None, [found.get(otherwise, ""), refused.rest]))}, False
    if not texts and not refused.unsure:
        match = named.match(refused.text) if named is not None else None
        name = next(filter(None, match.groups()), "") if match is not None else otherwise
        found = {name: refused.text} if name else {}
    return Faults(refused.text, found, rest=rest or len(found.keys() & texts.keys()) < len(texts))
