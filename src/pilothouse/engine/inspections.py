"""What is to be known of a release before it is written: its objects, and how large it will be.

Helm stores a release as base64 of gzipped JSON (``pkg/storage/driver/util.go``): the chart's own templates and files,
each in base64, its default values and schema, the values of the request, and everything rendered, notes and hooks
included. Subcharts are not in it, only what was rendered of them (``pkg/chart/v2/chart.go``).
"""

import base64
import io
import json
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

from pilothouse.archive.budget import ArchiveLimits, Budget
from pilothouse.archive.documents import read_objects
from pilothouse.archive.tarball import unpack
from pilothouse.engine.base import InspectRequest, RenderedObject
from pilothouse.errors import InvalidChart

_LIMIT = 1024 * 1024
#: What an archive and a text can become at most; below, packing them to see is not worth its time.
_ARCHIVE_GROWTH, _TEXT_GROWTH = 4, 1.4
#: What is larger is measured though it may pack well: whoever reads the release back has to unpack it whole.
_LARGE = 16 * 1024 * 1024
_NAMED_PARTS = 6
_LARGEST_DOCUMENT = 32 * 1024 * 1024
_NO_LIMITS = ArchiveLimits(unpacked_bytes=2**40, file_bytes=2**40, files=2**20, depth=16)
_HOOK = "helm.sh/hook"


def inspect_rendered(
    request: InspectRequest, archive: bytes, *, rendered: Mapping[str, str], crds: Sequence[str]
) -> dict[str, Any]:
    """The ``Inspection`` of a chart, given as its plain archive, of which the texts were rendered."""
    values = json.dumps(request.values)
    packed, unpacked, parts = 0, 0, list[tuple[str, int]]()
    text = sum(len(one) for one in rendered.values()) + len(values)
    if len(archive) * _ARCHIVE_GROWTH + text * _TEXT_GROWTH > _LIMIT or _inflated(archive) + text > _LARGE:
        packed, unpacked, parts = _measure(archive, rendered=rendered, values=values)
    return {
        "objects": [vars(one) for one in _objects(rendered, namespace=request.namespace)],
        "crd_kinds": _crd_kinds(crds),
        "packed_bytes": packed,
        "unpacked_bytes": unpacked,
        "parts": [{"name": name, "packed_bytes": size} for name, size in parts],
    }


def _objects(rendered: Mapping[str, str], *, namespace: str) -> list[RenderedObject]:
    found = []
    for path, text in rendered.items():
        if not path.endswith(".txt") and text.strip():
            for document in _documents(text, file=path):
                found += _of_document(document, namespace=namespace)
    return found


def _documents(text: str, *, file: str) -> list[dict[str, Any]]:
    try:
        return read_objects(text.encode(), file=file, max_bytes=_LARGEST_DOCUMENT)
    except (InvalidChart, UnicodeEncodeError):
        return []  # what is wrong with it, Helm says


def _of_document(document: Mapping[str, Any], *, namespace: str) -> list[RenderedObject]:
    metadata = document.get("metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    kind, version, items = document.get("kind"), document.get("apiVersion"), document.get("items")
    if isinstance(kind, str) and kind.endswith("List") and isinstance(items, list):
        return [one for item in items if isinstance(item, dict) for one in _of_document(item, namespace=namespace)]
    if not (isinstance(kind, str) and isinstance(version, str) and kind and version):
        return []
    annotations = metadata.get("annotations")
    return [
        RenderedObject(
            api_version=version,
            kind=kind,
            namespace=str(metadata.get("namespace") or namespace),
            name=str(metadata.get("name") or ""),
            hook=str(annotations.get(_HOOK) or "") if isinstance(annotations, dict) else "",
        )
    ]


def _crd_kinds(crds: Sequence[str]) -> list[tuple[str, str]]:
    documents = (document for text in crds for document in _documents(text, file="crds"))
    return [
        (f"{spec.get('group')}/{version.get('name')}", str(names.get("kind")))
        for spec in (document.get("spec") for document in documents)
        if isinstance(spec, dict) and isinstance(names := spec.get("names"), dict)
        for version in _mappings(spec.get("versions"))
        if version.get("served")
    ]


def _mappings(value: object) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _measure(archive: bytes, *, rendered: Mapping[str, str], values: str) -> tuple[int, int, list[tuple[str, int]]]:
    """The bytes of the whole, packed and not, and the largest parts by what each takes alone, largest first."""
    chart = unpack(io.BytesIO(archive), budget=Budget(_NO_LIMITS), keep=lambda _path, depth: depth == 0)
    parts = {
        _part_name(path): json.dumps({"name": path, "data": base64.b64encode(content).decode()})
        for path, content in chart.files.items()
        if not path.startswith("charts/")
    }
    parts["the values of the request"] = values
    parts["the rendered manifest, hooks and notes"] = json.dumps(
        [f"---\n# Source: {path}\n{text}\n" for path, text in rendered.items()]
    )
    whole = zlib.compressobj(9)
    size = sum(len(whole.compress(text.encode())) for text in parts.values()) + len(whole.flush())
    alone = {name: _in_base64(len(zlib.compress(text.encode()))) for name, text in parts.items()}
    unpacked = sum(map(len, parts.values()))
    return _in_base64(size), unpacked, sorted(alone.items(), key=lambda one: -one[1])[:_NAMED_PARTS]


def _inflated(archive: bytes) -> int:
    """The size of the tar in it, by its trailer (RFC 1952, ISIZE): the archive is one that we wrote, of one member."""
    return int.from_bytes(archive[-4:], "little")


def _part_name(path: str) -> str:
    if path == "values.yaml":
        return "the chart's default values"
    return f"template {path}" if path.startswith("templates/") else f"file {path}"


def _in_base64(size: int) -> int:
    return (size + 2) // 3 * 4
