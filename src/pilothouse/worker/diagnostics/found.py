"""Evidence of a failure as it is collected: masked as it comes, cut to size at its end."""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import Any, Final

import orjson

from pilothouse.engine.helm_errors import blocking_in, conflicts_in
from pilothouse.kubernetes.pods import shown_lines
from pilothouse.kubernetes.readiness import containers, is_healthy, mapping, pod_problem
from pilothouse.redaction import Masks
from pilothouse.worker.diagnostics.belonging import created_at
from pilothouse.worker.progress.hook_pods import Followed

_MOST_OBJECTS: Final = 40
_MOST_PODS: Final = 12
_MOST_CONTAINERS: Final = 10
_MOST_MISSING: Final = 20
_MOST_CONFLICTS: Final = 50
_LONGEST_LINE: Final = 1000
_LONGEST_LOG: Final = 8 * 1024
#: What is shown of the log of a test's container at most, and what the engine sends of it: what is cut off is no secret
#: to a mask any more.
_LONGEST_TEST_LOG: Final = 20 * 1024
_MOST_SENT: Final = 64 * 1024
_LONGEST_WORD: Final = 300
_LONGEST_ERROR: Final = 8 * 1024
_LARGEST: Final = 256 * 1024

Object = dict[str, Any]


@dataclass
class Found:
    """Collected evidence; texts are masked as they are added, because a cut secret is no longer recognised."""

    masks: list[Masks]
    objects: list[Object] = field(default_factory=list)
    pods: dict[tuple[str, str], Object] = field(default_factory=dict)
    events: list[Object] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    #: When each of the pods was created, by the cluster's clock.
    created: dict[tuple[str, str], datetime] = field(default_factory=dict)

    def clean(self, text: str, *, longest: int = _LONGEST_LINE) -> str:
        """Return the text with secrets masked, cut to that length."""
        for masks in self.masks:
            text = masks.apply(text)
        return text if len(text) <= longest else text[:longest] + "…"

    def clean_lines(self, lines: Iterable[bytes], *, room: int = _LONGEST_LOG, cut: bool = False) -> list[str]:
        """Return the last lines of a log, oldest first, as many as there is room for; ``cut``: it began before them."""
        return shown_lines(lines, self.masks, longest=_LONGEST_LINE, room=room, cut=cut)

    def add_pod(
        self,
        owner: str,
        pod: Object,
        *,
        hook: bool,
        logs: Mapping[str, Iterable[bytes]] | None = None,
        room: int = _LONGEST_LOG,
        cut: Collection[str] = (),
    ) -> None:
        """Add a pod in its current state, with the known logs of its containers, of at most ``room`` each.

        ``cut``: the names of the containers whose logs began before.
        """
        metadata, status = mapping(pod.get("metadata")), mapping(pod.get("status"))
        key = str(metadata.get("namespace")), str(metadata.get("name"))
        if key in self.pods or len(self.pods) >= _MOST_PODS:
            return
        self.created[key] = created_at(pod)
        known = logs or {}
        self.pods[key] = {
            "namespace": key[0],
            "name": key[1],
            "owner": owner,
            "hook": hook,
            "phase": str(status.get("phase") or ""),
            "trouble": "" if is_healthy(pod) else self.clean(pod_problem(pod)),
            "containers": [
                {
                    "name": container.name,
                    "state": self.clean(container.state, longest=_LONGEST_WORD),
                    "started": container.started,
                    "followed": container.name in known,
                    "log": self.clean_lines(known.get(container.name, ()), room=room, cut=container.name in cut),
                }
                for container in islice(containers(pod), _MOST_CONTAINERS)
            ],
        }

    def add_followed(self, followed: Followed) -> None:
        """Add what was recorded of tests after their end, and of hooks while they ran."""
        for tested in followed.tests.pods if followed.tests is not None else ():
            said = {name: text.rstrip("\n").encode().split(b"\n") for name, text in tested.logs.items()}
            cut = {name for name, text in tested.logs.items() if len(text.encode()) >= _MOST_SENT}
            self.add_pod(tested.owner, tested.pod, hook=True, logs=said, room=_LONGEST_TEST_LOG, cut=cut)
        for (namespace, name), (owner, pod) in followed.pods.items():
            logs = {key[2]: lines for key, lines in followed.logs.items() if key[:2] == (namespace, name)}
            self.add_pod(owner, pod, hook=True, logs=logs)

    def leave_out_hooks_before(self, since: datetime) -> None:
        """Remove the pods of hooks that were created before that: an earlier operation ran a hook of that name."""
        for key in [key for key, pod in self.pods.items() if pod["hook"] and self.created[key] < since]:
            del self.pods[key]

    def put_together(self, text: str) -> str:
        """Return everything as JSON, cut to size: drops the oldest events first, then logs from the last pod on."""
        shown = ("name", "state", "log")
        pods = [
            {**pod, "containers": [{key: container[key] for key in shown} for container in pod["containers"]]}
            for pod in self.pods.values()
        ]
        document = {
            "error": self.clean(text, longest=_LONGEST_ERROR),
            "blocking": [_cleaned(self, vars(obj)) for obj in blocking_in(text)[:_MOST_OBJECTS]],
            "conflicts": [_cleaned(self, vars(conflict)) for conflict in conflicts_in(text)[:_MOST_CONFLICTS]],
            "objects": self.objects,
            "pods": pods,
            "events": _each_once(sorted(self.events, key=lambda obj: obj["at"])),
            "missing": [self.clean(text) for text in self.missing[:_MOST_MISSING]],
        }
        return _cut(document)


def _cleaned(found: Found, words: dict[str, str]) -> dict[str, str]:
    return {key: found.clean(word, longest=_LONGEST_WORD) for key, word in words.items()}


def _each_once(events: list[Object]) -> list[Object]:
    return list({tuple(event.items()): event for event in events}.values())


def _cut(document: Object) -> str:
    whole = orjson.dumps(document)
    while len(whole) > _LARGEST and document["events"]:
        document["events"] = document["events"][len(document["events"]) // 4 + 1 :]
        whole = orjson.dumps(document)
    for pod in reversed(document["pods"]):
        for container in pod["containers"]:
            if len(whole) > _LARGEST and container["log"]:
                container["log"], container["state"] = (
                    [],
                    f"{container['state']}; its log was omitted for lack of space",
                )
                whole = orjson.dumps(document)
    return whole.decode()
