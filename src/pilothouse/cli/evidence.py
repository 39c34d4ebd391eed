"""Evidence of a failed attempt, for people: what was waited for, pods, logs, events."""

from collections.abc import Iterator
from typing import Any

from pilothouse.cli.terminal import clock_of


def evidence_lines(found: dict[str, Any]) -> Iterator[str]:
    """Return the evidence of one attempt as lines."""
    yield f"\nattempt {found['attempt']}: {found['error']}"
    for part in found["blocking"]:
        yield f"  waited for {part['kind']} {part['namespace']}/{part['name']}: {part['message'] or part['status']}"
    for part in found["conflicts"]:
        yield f"  {part['field']} of {part['kind']} {part['namespace']}/{part['name']} is held by {part['manager']}"
    for part in found["objects"]:
        yield f"  {'hook ' if part['hook'] else ''}{part['kind']} {part['namespace']}/{part['name']}  {part['state']}"
    for pod in found["pods"]:
        yield f"  pod {pod['namespace']}/{pod['name']}  {pod['trouble'] or pod['phase']}"
        for container in pod["containers"]:
            yield f"    container {container['name']}  {container['state']}"
            yield from (f"      | {line}" for line in container["log"])
    for event in found["events"]:
        yield f"  {clock_of(event['at'])}  {event['type']}  {event['object']}  {event['reason']}: {event['text']}"
    for part in found["missing"]:
        yield f"  not known: {part}"
