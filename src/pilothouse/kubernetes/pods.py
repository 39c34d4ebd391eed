"""States, log lines and Kubernetes events of pods.

Uses its own connections, so that long streams do not block other requests.
"""

import re
from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any

from pilothouse.errors import ClusterUnavailable, InvalidArgument
from pilothouse.kubernetes.api_client import objects_in
from pilothouse.kubernetes.json_lines import parse_line
from pilothouse.kubernetes.readiness import mapping
from pilothouse.kubernetes.resolver import LookUp
from pilothouse.kubernetes.transport import Transport
from pilothouse.redaction import MASK, Masks, redact_named
from pilothouse.settings import ClusterSettings

Object = dict[str, Any]

_LARGEST_POD = 2 * 1024 * 1024
#: Of one watch, and of one container's log while it is followed; what comes after it is not looked at.
_LARGEST_STREAM = 64 * 1024 * 1024
_LARGEST_LIST = 8 * 1024 * 1024
_LONGEST_LINE = 16 * 1024
_MOST_EVENTS = 200
#: ECMA-48, 5.4 and 5.6; what does not end is no sequence. Each ends where the next may begin.
_ESCAPES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*+[ -/]*+[@-~]|\x1b\][^\x07\x1b\n]*+(?:\x07|\x1b\\)|"
    r"\x1b[PX^_][^\x1b\n]*+\x1b\\|\x1b[ -/]*+[0-Z\\-~]"
)
KEY_BEGIN, KEY_END = (re.compile(rf"-----{word} [A-Z0-9 ]{{0,40}}PRIVATE KEY-----") for word in ("BEGIN", "END"))
_NAME = re.compile(r"[a-z0-9]([-.a-z0-9]{0,251}[a-z0-9])?")


class Pods:
    """Send requests to one cluster as one account.

    Every method raises ClusterUnavailable or ClusterDenied, and InvalidRequest for an invalid Kubernetes name.
    """

    def __init__(self, kubeconfig: str, settings: ClusterSettings, *, look_up: LookUp | None = None) -> None:
        """``kubeconfig`` comes from ``sanitise``; InvalidKubeconfig if TLS cannot use its certificates.

        ``look_up`` finds the server's addresses.
        """
        self._transport = Transport(kubeconfig, settings, look_up=look_up)

    async def watch(
        self, *, namespace: str, selector: str = "", name: str = "", seconds: float
    ) -> AsyncGenerator[Object, None]:
        """Yield the pods that match the label selector, or the one of that name, now and after each change.

        A deleted pod is yielded once more in its last state. Ends after ``seconds``.
        """
        params = {"watch": "true", "timeoutSeconds": str(max(1, int(seconds)))}
        params |= {"labelSelector": selector} if selector else {"fieldSelector": f"metadata.name={_checked(name)}"}
        lines = self._transport.stream(
            f"/api/v1/namespaces/{_checked(namespace)}/pods",
            params=params,
            idle_seconds=seconds + 1,
            seconds=seconds + 1,
            largest_line=_LARGEST_POD,
            largest=_LARGEST_STREAM,
        )
        async with aclosing(lines):
            async for some in lines:
                for line in some:
                    pod = _pod_in(line)
                    if pod is not None:
                        yield pod

    async def read_log(
        self,
        *,
        namespace: str,
        pod: str,
        container: str,
        most_lines: int,
        follow: bool = False,
        previous: bool = False,
        seconds: float,
    ) -> AsyncGenerator[list[bytes], None]:
        """Yield the last lines of a container's log and, with ``follow``, further ones until it ends.

        ``previous``: of the run before the container's last restart.

        For a container that waits to restart, the kubelet returns the previous run (``pkg/kubelet/kubelet_pods.go``,
        ``validateContainerLogStatus``). A line of more than 16 KiB is b''. ClusterUnavailable if there is no log, such
        as of a container that never ran, or if nothing arrives for ``seconds``. Ends after ``seconds``.
        """
        params = {"container": container, "tailLines": str(most_lines)}
        params |= ({"follow": "true"} if follow else {}) | ({"previous": "true"} if previous else {})
        path = f"/api/v1/namespaces/{_checked(namespace)}/pods/{_checked(pod)}/log"
        lines = self._transport.stream(
            path,
            params=params,
            idle_seconds=seconds,
            seconds=seconds,
            largest_line=_LONGEST_LINE,
            largest=_LARGEST_STREAM if follow else most_lines * 4 * _LONGEST_LINE,
        )
        async with aclosing(lines):
            async for some in lines:
                yield some

    async def list_events(self, *, namespace: str, kind: str, name: str) -> list[Object]:
        """Return the events of one object, unordered; the object may be gone."""
        about = f"involvedObject.kind={kind},involvedObject.name={_checked(name)}"
        path = f"/api/v1/namespaces/{_checked(namespace)}/events"
        params = {"fieldSelector": about, "limit": str(_MOST_EVENTS)}
        answer = await self._transport.ask("GET", path, params=params, largest=_LARGEST_LIST)
        if not answer.ok:
            raise ClusterUnavailable(f"{self._transport.server} answered {answer.status}: {answer.message}")
        return objects_in(answer.body.get("items"))

    async def clock_ahead(self) -> timedelta | None:
        """Return how far the cluster's clock is ahead of this process's, or a little less; None if it does not tell."""
        answer = await self._transport.ask("GET", "/version", largest=_LARGEST_LIST)
        return answer.at - datetime.now(UTC) if answer.at is not None else None

    async def close(self) -> None:
        """Close the connections."""
        await self._transport.close()


def event_facts(event: Object) -> Object:
    """Return what is told of an event; the message on one line, as whoever reported it wrote it."""
    about = mapping(event.get("involvedObject"))
    at = next((str(event[key]) for key in ("lastTimestamp", "eventTime", "firstTimestamp") if event.get(key)), "")
    return {
        "at": at or str(mapping(event.get("metadata")).get("creationTimestamp") or ""),
        "type": str(event.get("type") or ""),
        "object": f"{about.get('kind')}/{about.get('name')}",
        "reason": str(event.get("reason") or ""),
        "text": " ".join(str(event.get("message") or "").split()),
        "count": event.get("count") if isinstance(event.get("count"), int) else 1,
    }


def shown_lines(
    lines: Iterable[bytes], masks: Iterable[Masks], *, longest: int, room: int, cut: bool = False
) -> list[str]:
    """Return the last lines of a log, oldest first, as many as there is room for, without secrets; takes a while.

    All lines are masked together: what is a secret may go over several. ``cut``: the log began before them, somewhere,
    so that what comes first may be a part of a secret, which no mask knows.
    """
    text = _without_rest_of_key(without_escapes(b"\n".join(lines).decode(errors="replace")))
    for each in masks:
        text = each.apply(text)
    text = redact_named(text)
    if cut:
        text = text[-room:].partition("\n")[2]
    kept: list[str] = []
    for line in reversed(text.split("\n")):
        plain = "".join(char if char.isprintable() or char == "\t" else " " for char in line[: longest + 1])
        plain = plain if len(plain) <= longest else plain[:longest] + "…"
        room -= len(plain) + 1
        if room < 0:
            break
        kept.append(plain)
    return kept[::-1] if any(kept) else []


def without_escapes(text: str) -> str:
    """Return the text without sequences that colour it or move a terminal's cursor; one may stand within a secret."""
    return _ESCAPES.sub("", text) if "\x1b" in text or "\x9b" in text else text


def _without_rest_of_key(text: str) -> str:
    """Return the text without a private key that begins before it: of that, only what is before its end is known."""
    end = KEY_END.search(text)
    if end is None or KEY_BEGIN.search(text, 0, end.start()):
        return text
    return MASK + text[end.end() :]


def _pod_in(line: bytes) -> Object | None:
    event = parse_line(line)
    pod = event.get("object") if isinstance(event, dict) else None
    return pod if isinstance(pod, dict) and pod.get("kind") == "Pod" else None


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise InvalidArgument(f"{name[:80]!r} is not a valid Kubernetes object name")
    return name
