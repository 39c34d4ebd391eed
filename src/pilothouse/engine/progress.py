"""What the library's log lines say about the progress of an operation; the only place that knows their wording.

The lines are those of Helm 4.2 (``pkg/kube/client.go``, ``statuswait.go``, ``pkg/storage``), written as a message and
``key=value`` pairs without quotes. They are no interface: a line that is not known is ignored, and nothing but what a
person watches may depend on an event. The text of an error is cut off, as it may quote a Secret's data; the call's
own result carries it, but for one (``CAUSE_NOT_TOLD``).
"""

import re

from pilothouse.engine.base import ProgressEvent

_WARNING = 2
#: Why objects could not be deleted is only logged; the uninstall's own error names the release and nothing else.
CAUSE_NOT_TOLD = "uninstall: Failed to delete release error="

_OBJECT = r"namespace=(?P<namespace>\S*) name=(?P<name>\S+) "
_LINES = tuple(
    (phase, re.compile(pattern))
    for phase, pattern in (
        ("render", r"(?:getting release history|preparing upgrade) name=\S+"),
        ("apply", r"(?:creating resource\(s\)|checking resources for changes) resources=(?P<batch>\d+)"),
        ("apply", rf"(?:Created resource via patch|Patched resource) {_OBJECT}gvk=\S+, Kind=(?P<kind>\S+)"),
        ("delete", rf"(?:deleting resource|starting delete resource) {_OBJECT}kind=(?P<kind>\S+)"),
        ("wait", r"waiting for resources(?: to be deleted)? count=(?P<total>\d+) timeout=\S+"),
        ("wait", rf"waiting for resource {_OBJECT}kind=(?P<kind>\S+) expectedStatus=\S+ actualStatus=\S+"),
        ("wait", r"all resources achieved desired status desiredStatus=\S+ resourceCount=(?P<reached>\d+)"),
        ("storage", r"(?:creating|updating|deleting) release key=\S+"),
    )
)


class ProgressReader:
    """Turns the lines of one operation into events, and counts the objects of the batch that is being applied.

    A hook is what is created right after the release was stored again: Helm notes there that the hook begins
    (``pkg/action/hooks.go``).
    """

    def __init__(self) -> None:
        self._done = 0
        self._batch: int | None = None
        self._stored = False
        self._in_hook = False

    def read(self, level: int, line: str) -> ProgressEvent | None:
        """The event that a line tells of, None when it tells of none."""
        message = line.split(" error=", 1)[0].strip()
        if level == _WARNING:
            return ProgressEvent(phase="warning", message=message)
        for phase, pattern in _LINES:
            found = pattern.fullmatch(message)
            if found is not None:
                return self._event(phase, message, found.groupdict())
        return None

    def _event(self, phase: str, message: str, found: dict[str, str]) -> ProgressEvent:
        if "batch" in found or phase == "delete":
            self._in_hook = self._stored and message.startswith("creating")
        self._stored = message.startswith("updating release")
        done: int | None = None
        total = int(found["total"]) if "total" in found else None
        if "batch" in found:
            self._done, self._batch = 0, int(found["batch"])
            done, total = 0, self._batch
        elif "reached" in found:
            done = total = int(found["reached"])
        elif phase == "apply":
            self._done += 1
            done, total = self._done, self._batch
        in_hook = self._in_hook and phase in {"apply", "wait"}
        if "reached" in found:
            self._in_hook = False
        return ProgressEvent(
            phase="hook" if in_hook else phase,
            message=message,
            object_kind=found.get("kind", ""),
            object_name=found.get("name", ""),
            object_namespace=found.get("namespace", ""),
            done=done,
            total=total,
        )
