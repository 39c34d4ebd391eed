"""A chart sent to an OCI registry as ``helm push`` sends it: its layers, its config, then the manifest under a tag.

Whatever the registry answers, nothing is sent to another host than the source's own, and no redirect is followed.
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import orjson

from pilothouse.chart_sources.fetch import Answer, authority, joined, shown
from pilothouse.chart_sources.registry import CHART, CONFIG, MANIFEST, PROVENANCE, Layer, Manifest, Repository, tag_of
from pilothouse.errors import AlreadyExists, InvalidSource, NotFound, SourceDenied, SourceUnavailable

_REASONS: Final[Mapping[int, str]] = {
    HTTPStatus.NOT_FOUND: "the registry has no such place; some want it to be created before the first push",
    HTTPStatus.METHOD_NOT_ALLOWED: "the registry takes no uploads there; it may be a mirror",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "the registry, or a proxy before it, takes no upload of that size",
}


@dataclass(frozen=True, kw_only=True)
class NewChart:
    """A chart that is to be published; ``config`` is its metadata as Helm's JSON, ``provenance`` may be empty."""

    name: str
    version: str
    archive: bytes = field(repr=False)
    config: bytes = field(repr=False)
    provenance: bytes = field(default=b"", repr=False)


@dataclass(frozen=True)
class Published:
    """A chart that the registry has; ``created`` is False if it had the same before."""

    digest: str
    created: bool


async def publish(
    repository: Repository, chart: NewChart, *, replace: bool, sending: Callable[[], object]
) -> Published:
    """Send what the registry does not have yet, and check that its tag leads to the chart.

    ``sending`` is called before the tag is set: from then on the registry may have the chart, whatever is raised.

    Raises AlreadyExists if it has another chart, or another provenance, under that version and ``replace`` is not set,
    SourceUnavailable, InvalidSource, or Busy.
    """
    layer, config = _layer(CHART, chart.archive), _layer(CONFIG, chart.config)
    provenance = _layer(PROVENANCE, chart.provenance) if chart.provenance else None
    before, tag = await _find_before(repository, chart, replace=replace), tag_of(chart.version)
    if before is not None:
        if before.chart.digest == layer.digest and _has(before, provenance):
            return Published(before.digest, created=False)
        if not replace and before.chart.digest != layer.digest:
            raise _taken(repository, chart, f"another content ({before.chart.digest})")
        if not replace and before.provenance is not None:
            raise _taken(repository, chart, f"another provenance file ({before.provenance.digest})")
    await _send_blob(repository, layer, chart.archive)
    await _send_blob(repository, config, chart.config)
    if provenance is not None:
        await _send_blob(repository, provenance, chart.provenance)
    manifest = _manifest(chart, config, [layer] if provenance is None else [layer, provenance])
    sending()
    answer = await repository.send(
        "PUT", repository.url_of(f"manifests/{tag}"), headers={"content-type": MANIFEST}, body=manifest
    )
    _refuse(answer, "the manifest of the chart", expected=HTTPStatus.CREATED)
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    now = await repository.find_manifest(tag)
    if now.digest != digest:
        raise InvalidSource(
            f"{repository.path}:{tag} is the manifest {now.digest} there now, and not {digest}, which was "
            "sent; somebody else may have pushed at the same moment"
        )
    return Published(digest, created=True)


async def _find_before(repository: Repository, chart: NewChart, *, replace: bool) -> Manifest | None:
    """Return the chart that the registry has under that version; None for none, or for what is to be replaced."""
    try:
        return await repository.find_manifest(tag_of(chart.version))
    except NotFound:
        return None
    except InvalidSource as error:  # it is no chart
        if replace:
            return None
        raise _taken(repository, chart, "another content (no chart)") from error


def _has(before: Manifest, provenance: Layer | None) -> bool:
    """Return True if the registry has that provenance, or any if there is none to be sent."""
    return provenance is None or (before.provenance is not None and before.provenance.digest == provenance.digest)


def _taken(repository: Repository, chart: NewChart, what: str) -> AlreadyExists:
    return AlreadyExists(
        f"{repository.path} has version {chart.version} with {what}; raise the version of the chart, or set replace to "
        "put this one in its place"
    )


async def _send_blob(repository: Repository, layer: Layer, content: bytes) -> None:
    found = await repository.send("HEAD", repository.url_of(f"blobs/{layer.digest}"))
    if found.status == HTTPStatus.OK:
        return
    begun = await repository.send("POST", repository.url_of("blobs/uploads/"))
    _refuse(begun, "an upload", expected=HTTPStatus.ACCEPTED)
    target = joined(begun.url, begun.headers.get("location") or "/")
    if authority(target) != authority(begun.url):
        raise InvalidSource(
            f"{shown(begun.url)} wants the chart to be sent to {shown(target)}, which is another host, port or scheme; "
            "that is not done. Name that one as the source, or tell the registry its own address"
        )
    headers = {"content-type": "application/octet-stream"}
    url = f"{target}{'&' if '?' in target else '?'}digest={layer.digest}"
    _refuse(await repository.send("PUT", url, headers=headers, body=content), "a part of the chart", expected=201)


def _refuse(answer: Answer, what: str, *, expected: int) -> None:
    """Return for that status, else raise the error that says why the registry did not take it."""
    where, status = shown(answer.url), answer.status
    if status == expected:
        return
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise SourceDenied(
            f"{where} ({status}): the registry refuses the credentials of the source, needs some, or does not allow "
            "them to push"
        )
    if HTTPStatus.MULTIPLE_CHOICES <= status < HTTPStatus.BAD_REQUEST:
        raise InvalidSource(f"{where} redirects {what} ({status}), which is not followed; name its target as source")
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise SourceUnavailable(f"{where} answered {status} to {what}")
    reason = _REASONS.get(status, "that is no answer of a registry that takes it")
    raise InvalidSource(f"{where} answered {status} to {what}: {reason}")


def _layer(media_type: str, content: bytes) -> Layer:
    return Layer(media_type, f"sha256:{hashlib.sha256(content).hexdigest()}", len(content))


def _manifest(chart: NewChart, config: Layer, layers: list[Layer]) -> bytes:
    def part(of: Layer) -> dict[str, str | int]:
        return {"mediaType": of.media_type, "digest": of.digest, "size": of.size}

    return orjson.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": part(config),
            "layers": [part(layer) for layer in sorted(layers, key=lambda layer: layer.digest)],  # as Helm does
            "annotations": {
                "org.opencontainers.image.title": chart.name,
                "org.opencontainers.image.version": chart.version,
            },
        }
    )
