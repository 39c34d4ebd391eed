"""The server's texts name options and calls of the API; a person types flags and commands."""

import re
import shlex
from typing import Final
from urllib.parse import unquote

_FLAGS: Final = {"timeout_seconds": "--timeout", "crds": "--skip-crds"}
#: What is no word of English, and so is an option wherever it stands; others stand behind ``options.``.
_UNMISTAKABLE: Final = (
    "cleanup_on_fail",
    "create_namespace",
    "force_conflicts",
    "force_replace",
    "history_max",
    "no_hooks",
    "rollback_on_failure",
    "skip_schema_validation",
    "take_ownership",
    "timeout_seconds",
)
_OPTION: Final = re.compile(rf"(?<![\w./'\"-])(?:options\.([a-z_]+)|({'|'.join(_UNMISTAKABLE)}))\b")
#: What forms and bodies about charts are told to hold.
_PARAMETER: Final = re.compile(r'parameters \{"(override|skip_lint)": true\}')
_CONFLICT: Final = re.compile(r"Apply failed with \d+ conflicts?")
_UNLOCK: Final = re.compile(r"POST /api/v1/clusters/[\w-]+/unlock")
_RELEASE: Final = re.compile(r"/clusters/([^/]+)/namespaces/([^/]+)/releases/([^/?]+)")
#: Fields of a chart source, which are files and flags.
_PHRASES: Final = {
    "give a user name and a password": "--username NAME asks for its password, --password-stdin reads it",
    "check the user name and the password": "check --username, and the password",
    "; send the authority that signed it as ca": "; name a file with the authority that signed it by --ca-file",
    "send them in the field credentials": "name the user by --username",
    "its history lists the existing revisions": "'pilothouse history NAME' lists those that it has",
    "its history lists those that it has": "'pilothouse history NAME' lists them",
    "its history lists others": "'pilothouse history NAME' lists others",
    "synchronise it for newer ones": "'pilothouse source sync NAME' asks it for newer ones",
    "set replace to": "add --replace to",
    "Helm's label and annotations to have it adopted": "Helm's label and annotations, or add --take-ownership, to "
    "have it adopted",
    "to those of this release; or delete it": "to those of this release, or add --take-ownership; or delete it",
    "create it again, or delete it": "install it again, or uninstall it",
}
#: A layer of values with the flag or file that it came from, which says enough.
_LAYER: Final = re.compile(r"(?<![\w.])values\[\d+\] \(([^()]+)\)")
#: Fields that a refusal begins with, and what was typed for them.
_TYPED: Final = {
    "revision": "REVISION",
    "filters": "--filter",
    "chart.name": "CHART",
    "chart.version": "--version",
    "scope.project": "--project",
}
_FIELD: Final = re.compile(r"^(revision|filters|chart\.name|chart\.version|scope\.project)(?:\[\d+\])?: ")
#: What the API server, or its client, says of a number or truth where a text must be, such as an annotation.
_NO_TEXT: Final = re.compile(
    r"expected string, got &value\.valueUnstructured\{"
    r"|cannot unmarshal (?:number|bool) into Go struct field \S+ of type string"
)
_TEXT_HINT: Final = "--set-string, or quotes in a file of values, make a text of it"
#: What Go says of a file of values that is a list, for one.
_NO_MAP: Final = re.compile(
    r"(?:error unmarshaling JSON: )?(?:while decoding JSON: )?json: cannot unmarshal (\w+) into Go value of type "
    r"map\[string\]interface ?\{\}"
)
_RUNNING: Final = re.compile(r"\(operation ([0-9a-f-]{36})\); retry when the release is no longer pending")
#: What the vendor's clients wait on, whatever the request is.
_FORBIDDEN: Final = "Update release is forbidden: "
_RENDERED_HINT: Final = "'pilothouse template CHART --debug' with the same values prints what was rendered"
FORCE_HINT: Final = (
    "--force-conflicts takes over fields that somebody else has set; or leave them out of the chart or values"
)


def reword(text: str, *, about: str = "") -> str:
    """Return a text of the server with flags and commands in place of the API's options and calls.

    ``about``: the address that it is the answer of.
    """
    text = _UNLOCK.sub(lambda _: _unlock(about), text).replace(_FORBIDDEN, "")
    text = _FIELD.sub(lambda found: f"{_TYPED[found[1]]}: ", _LAYER.sub(r"\1", text))
    text = _OPTION.sub(lambda found: _flag(found[1] or found[2]), text)
    text = _PARAMETER.sub(lambda found: _flag(found[1]), text)
    text = _NO_MAP.sub(r"it must hold names with values, and holds one \1", text)
    for phrase, typed in _PHRASES.items():
        text = text.replace(phrase, typed)
    if _NO_TEXT.search(text):
        return f"{text}; {_TEXT_HINT}"
    if running := _RUNNING.search(text):
        return f"{text}; {follow_hint(running[1])}"
    return f"{text}; {_RENDERED_HINT}" if "YAML parse error on " in text else text


def release_in(path: str) -> str:
    """Return the name of the release that an address is of; empty if it is of none."""
    found = _RELEASE.search(path)
    return unquote(found[3]) if found else ""


def _unlock(path: str) -> str:
    """Return the command that unlocks a release, the one of this address if it is of one."""
    found = _RELEASE.search(path)
    cluster, namespace, name = (unquote(word) for word in found.groups()) if found else ("", "", "NAME")
    place = ["-n", namespace, "--cluster", cluster] if found else []
    return shlex.join(["pilothouse", "release", "unlock", name, *place, "--reason", "TEXT"])


def follow_hint(operation_id: str) -> str:
    """Return what may be typed about an operation that is at work."""
    return advise(*(f"pilothouse operation {verb} {operation_id}" for verb in ("follow", "cancel")))


def advise(shows: str, ends: str) -> str:
    """Return the advice to type one of the two commands about an operation."""
    return f"'{shows}' shows it, '{ends}' ends it"


def explain_conflict(text: str) -> str:
    """Return why an operation failed; of fields that others manage also what to do, which Helm does not say."""
    return f"{reword(text)}; {FORCE_HINT}" if _CONFLICT.search(text) else reword(text)


def _flag(name: str) -> str:
    return _FLAGS.get(name, f"--{name.replace('_', '-')}")
