"""The chart that a stored revision was made from, as an archive: Helm stores it without its subcharts."""

import base64
import binascii
import gzip
import io
import tarfile
from collections.abc import Iterator

import msgspec

from pilothouse.errors import InvalidRequest
from pilothouse.kubernetes.client import Secret
from pilothouse.kubernetes.helm_secrets import LARGEST_PAYLOAD, decode_release, inflate_payload
from pilothouse.kubernetes.stored_hooks import decode_hooks

_LEVEL = 6


class _File(msgspec.Struct):
    name: str = ""
    data: str | None = None


class _Dependencies(msgspec.Struct):
    dependencies: list[msgspec.Raw] | None = None


class _Chart(msgspec.Struct):
    metadata: msgspec.Raw
    values: msgspec.Raw = msgspec.Raw(b"{}")
    lock: _Dependencies | None = None
    templates: list[_File] | None = None
    files: list[_File] | None = None
    schema: str | None = None


class _Payload(msgspec.Struct):
    chart: _Chart


_decoder = msgspec.json.Decoder(_Payload)
_metadata_decoder = msgspec.json.Decoder(_Dependencies)


def pack_stored_chart(secret: Secret) -> bytes:
    """Return the chart in the release's Secret as an archive, the same bytes each time. Blocks.

    Raises CorruptRelease if there is none that could be read, and InvalidRequest if it has subcharts, which Helm does
    not store.
    """
    stored = decode_release(secret)
    try:
        chart = _decoder.decode(inflate_payload(secret, max_bytes=LARGEST_PAYLOAD)).chart
        declared = _metadata_decoder.decode(chart.metadata).dependencies
        files = dict(_files_of(chart))
    except (msgspec.DecodeError, UnicodeError, RecursionError, binascii.Error) as error:
        raise InvalidRequest(f"revision {stored.revision}: its chart cannot be read: {error}") from None
    below = f"{stored.chart_name}/charts/"
    has_parts = f"# Source: {below}" in stored.manifest or any(
        hook.path.startswith(below) for hook in decode_hooks(stored.hooks_json)
    )
    if declared or (chart.lock is not None and chart.lock.dependencies) or has_parts:
        raise InvalidRequest(
            f"revision {stored.revision}: chart {stored.chart_name} {stored.chart_version} has subcharts, which Helm "
            "does not store with a release; upload the chart, and send its id"
        )
    return _pack({f"{stored.chart_name}/{path}": content for path, content in files.items()})


def _files_of(chart: _Chart) -> Iterator[tuple[str, bytes]]:
    yield "Chart.yaml", bytes(chart.metadata) + b"\n"  # JSON is YAML
    yield "values.yaml", bytes(chart.values if bytes(chart.values) != b"null" else b"{}") + b"\n"
    if chart.schema:
        yield "values.schema.json", base64.b64decode(chart.schema, validate=True)
    for file in (*(chart.templates or ()), *(chart.files or ())):
        yield file.name, base64.b64decode(file.data or "", validate=True)


def _pack(files: dict[str, bytes]) -> bytes:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o644
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(raw.getvalue(), _LEVEL, mtime=0)
