"""Classification of Helm's error messages: the only module that knows their wording; each row has a test.

The tests run on a real cluster. The engine classifies by Go types where it can (``engine/errors.go``); this covers what
Helm only says in words, or has stored.
"""

import re
from dataclasses import dataclass
from typing import Literal

from pilothouse.errors import HelmError

#: The kind of what could not be judged: the cluster could not be reached, did not answer, or not now.
_UNREACHABLE = "HelmKubeError"
_TAKEN = "HelmRevisionTakenError"
#: Values that the chart's schema refuses.
SCHEMA_ERROR = "HelmSchemaError"
#: The engine's kind for what no type tells.
_ANY = "HelmReleaseError"
# The order matters: a chart may print any text, but only behind the name of its template.
_TEXTS = (
    (re.compile(r"execution error at \(|parse error at \(|YAML parse error on |[^\s:]+/templates/"), "HelmRenderError"),
    (re.compile(r"unable to build kubernetes objects from release manifest"), "HelmManifestError"),
    (re.compile(r"values don't meet the specifications of the schema"), SCHEMA_ERROR),
    (re.compile(r"release name check failed: cannot reuse a name that is still in use"), "HelmNameInUseError"),
    (re.compile(r"release name check failed: release name "), "HelmInvalidNameError"),
    (re.compile(r"another operation \(install/upgrade/rollback\) is in progress"), "HelmInProgressError"),
    (re.compile(r"(?s).*exists and cannot be imported into the current release"), "HelmOwnershipError"),
    (re.compile(r"(?s).*Apply failed with \d+ conflicts?: "), "HelmConflictError"),
    (re.compile(r'create: failed to create: namespaces "[^"]*" not found'), "HelmNamespaceMissingError"),
    (re.compile(r"(?s).* is forbidden: "), "HelmForbiddenError"),
    (re.compile(r"could not get (server version|apiVersions) from Kubernetes: .*dial tcp "), _UNREACHABLE),
    (re.compile(r"cluster reachability check failed: .*: the server has asked for the client to provide credentials"),
     "HelmUnauthorizedError"),
    (re.compile(r"(?s).*etcdserver: request is too large"), "HelmTooLargeError"),
    # last: the API server may say any of this about something else, such as a webhook, behind words known above
    (re.compile(r"(?s).*(the server is currently unable to handle the request|the server has received too many requests"
                r"|the server was unable to return a response|etcdserver: |connection refused|connection reset by peer"
                r"|i/o timeout|TLS handshake timeout|client connection lost|no route to host|: (unexpected )?EOF)"),
     _UNREACHABLE),
)  # fmt: skip
_CONFLICTING = re.compile(
    r"conflict occurred while applying object (?P<namespace>[^/\s]*)/(?P<name>\S+) \S*, Kind=(?P<kind>\w+): "
    r"Apply failed with \d+ conflicts?: (?P<conflicts>.*?)(?= && conflict occurred while applying|\Z)",
    re.DOTALL,
)
_MANAGER = re.compile(
    # what lies between ends where the next conflict begins: a text full of beginnings is read once
    r'conflicts? with "(?P<manager>(?:[^"\\]|\\.)*+)"(?:(?!conflicts? with ")[^:\n])*+(?:(?::\d\d){2}Z)?:'
    r"(?: (?P<field>\S[^\n]*)|(?P<fields>(?:\n- [^\n]*)+))"
)
_FIELD = re.compile(r"\n- ([^\n]*)")
_BLOCKING = re.compile(
    r"resource (?P<kind>\w+)/(?P<namespace>[^/\s]*)/(?P<name>\S+) (?:not ready|still exists)\. "
    r"status: (?P<status>\w*), message: (?P<message>[^\n]*)"
)


def helm_error(text: str, *, kind: str = _ANY) -> HelmError:
    """Return the engine's error with the ``kind`` from its types or, if they do not tell, from the text.

    HelmTimeoutError is a wait that took too long. HelmKubeError: the cluster did not answer, or not now.
    """
    if kind == _ANY:
        kind = next((finer for pattern, finer in _TEXTS if pattern.match(text)), kind)
    if kind == _ANY and "context deadline exceeded" in text:
        kind = "HelmTimeoutError"
    return HelmError(text, kind=kind)


def status_of(error: HelmError) -> Literal["unreachable", "taken", "refused"]:
    """Return how the call ended: the cluster was out of reach, the next revision was taken, or Helm's own answer."""
    if error.kind == _UNREACHABLE:
        return "unreachable"
    return "taken" if error.kind == _TAKEN else "refused"


def tells_of_unreachable(description: str) -> bool:
    """Return True if the description that Helm wrote into a failed release says that the cluster was out of reach."""
    return status_of(helm_error(description)) == "unreachable"


@dataclass(frozen=True)
class Conflict:
    """A field owned by another manager, which server-side apply therefore did not set."""

    kind: str
    namespace: str
    name: str
    field: str
    manager: str


@dataclass(frozen=True)
class Blocking:
    """An object that Helm's wait timed out on; ``status`` and ``message`` are those of its readiness library."""

    kind: str
    namespace: str
    name: str
    status: str
    message: str


def conflicts_in(text: str) -> list[Conflict]:
    """Return the server-side apply conflicts in an error of Helm.

    Source of the wording: Helm ``pkg/kube/client.go`` (the object), Kubernetes apimachinery
    ``managedfields/internal/conflict.go`` (manager and fields).
    """
    found = []
    for match in _CONFLICTING.finditer(text):
        for owner in _MANAGER.finditer(match["conflicts"]):
            fields = [owner["field"]] if owner["field"] else _FIELD.findall(owner["fields"])
            manager = re.sub(r"\\(.)", r"\1", owner["manager"])
            found += [
                Conflict(match["kind"], match["namespace"], match["name"], field.strip(), manager) for field in fields
            ]
    return found


def blocking_in(text: str) -> list[Blocking]:
    """Return the objects that were not ready, or not gone, in time (``pkg/kube/statuswait.go``), each once."""
    return list(dict.fromkeys(Blocking(**found.groupdict()) for found in _BLOCKING.finditer(text)))
