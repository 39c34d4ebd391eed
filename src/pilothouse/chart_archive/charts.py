"""Metadata of a chart archive, checked before it is stored and before Helm loads it.

The rules are Helm's own (``pkg/chart/v2/metadata.go``) where they protect the meaning of a field, and stricter where a
name is used in file names, URLs and database columns.
"""

import hashlib
import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, BinaryIO, Final, cast

import orjson

from pilothouse.chart_archive.budget import ArchiveLimits, Budget
from pilothouse.chart_archive.documents import go_text, read_document, read_values
from pilothouse.chart_archive.tarball import unpack
from pilothouse.errors import InvalidChart
from pilothouse.settings import ChartLimits

#: The vendor's response page states 64 for both.
_TEXT_LIMIT = 64
_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
#: SemVer 2, with what Helm also reads as one: a leading "v" (cert-manager's charts), a missing minor or patch, and
#: numbers with leading zeros (calendar versions).
_VERSION = re.compile(
    r"v?[0-9]{1,19}(\.[0-9]{1,19}){0,2}"
    r"(-(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*)(\.(0|[1-9][0-9]*|[0-9]*[A-Za-z-][0-9A-Za-z-]*))*)?"
    r"(\+[0-9A-Za-z-]+(\.[0-9A-Za-z-]+)*)?"
)
README_NAMES: Final = frozenset({"readme.md", "readme.txt", "readme"})
_CRDS = re.compile(r"(?:charts/[^/]+/)*crds/.+\.(?:ya?ml|json)")
_SCHEMA = "values.schema.json"
_KEPT = frozenset({"Chart.yaml", "values.yaml", "requirements.yaml"})
#: The fields that Helm fills from Chart.yaml; Go's JSON reader finds them in any case of letters.
_FIELDS = (
    *("name", "home", "sources", "version", "description", "keywords", "maintainers", "icon", "apiVersion"),
    *("condition", "tags", "appVersion", "deprecated", "annotations", "kubeVersion", "dependencies", "type"),
)
#: What is no text among them; what Helm writes even if it is empty is said to be always there.
_SHAPES: Mapping[str, Any] = {
    "sources": [""],
    "keywords": [""],
    "maintainers": [{"name": "", "email": "", "url": ""}],
    "deprecated": True,
    "annotations": {"*": ""},
    "dependencies": [
        {"name": "always", "version": "", "repository": "always", "condition": "", "tags": [""], "enabled": True}
        | {"import-values": "any", "alias": ""}
    ],
}
_FOLDED_FIELDS = {name.casefold(): name for name in _FIELDS}


@dataclass(frozen=True)
class ChartArchive:
    """A chart archive that may be stored; ``values`` is what Helm reads from values.yaml, {} without one.

    ``version`` is as written. ``readme_name`` is the readme's name as in the archive, or ''. ``type`` is
    ``application`` or ``library`` (which cannot be installed). ``digest`` is the SHA-256 of the archive in hex and
    ``size`` its size in bytes.
    """

    name: str
    version: str
    description: str
    icon_url: str
    readme_name: str
    values: dict[str, Any]
    app_version: str
    type: str
    api_version: str
    digest: str
    size: int


def inspect_chart(archive: bytes | BinaryIO, *, limits: ChartLimits) -> ChartArchive:
    """Return the chart if opening the archive is safe and within the limits; InvalidChart names the file or limit.

    Holds at most one file of ``limits.file_bytes`` per level of nested archives, and takes at most about a second at
    the default limits. Blocks: call it in a thread.
    """
    source = _Measured(io.BytesIO(archive) if isinstance(archive, bytes) else archive)
    budget = Budget(limits_of(limits))
    found = unpack(cast("BinaryIO", source), budget=budget, keep=lambda path, depth: depth == 0 and path in _KEPT)
    metadata = _read_metadata(found.files, limits=limits)
    values = read_values(found.files.get("values.yaml", b""), file="values.yaml", max_bytes=limits.values_bytes)
    if (size := len(orjson.dumps(values))) > limits.values_bytes:
        raise InvalidChart(f"values.yaml: {size} bytes as JSON; the limit is {limits.values_bytes}")
    return ChartArchive(
        name=metadata["name"],
        version=metadata["version"],
        description=metadata["description"],
        icon_url=metadata["icon"],
        readme_name=next((path for path in found.paths if path.casefold() in README_NAMES), ""),
        values=values,
        app_version=metadata["appVersion"],
        type=metadata["type"] or "application",
        api_version=metadata["apiVersion"],
        digest=source.digest.hexdigest(),
        size=source.size,
    )


def uses_lookup(archive: bytes, *, limits: ChartLimits) -> bool:
    """Return True if a template of the chart or its subcharts may read objects of the cluster. Blocks."""
    return _templates_mention((b"lookup",), archive, limits=limits)


def evaluates_values(archive: bytes, *, limits: ChartLimits) -> bool:
    """Return True if a template may evaluate other text as a template, such as values. Blocks."""
    return _templates_mention((b"tpl",), archive, limits=limits)


def asks_cluster(archive: bytes, *, limits: ChartLimits) -> bool:
    """Return True if the output may depend on the cluster: its objects, its version, its kinds. Blocks."""
    return _templates_mention((b"lookup", b"Capabilities"), archive, limits=limits)


def _templates_mention(words: tuple[bytes, ...], archive: bytes, *, limits: ChartLimits) -> bool:
    try:
        found = unpack(
            io.BytesIO(archive), budget=Budget(limits_of(limits)), keep=lambda path, _depth: "templates/" in path
        )
    except InvalidChart:
        return True  # limits may be tighter than they were when it was uploaded: in doubt it does
    waiting = [found]
    while waiting:
        node = waiting.pop()
        if any(word in content for content in node.files.values() for word in words):
            return True
        waiting += node.nested.values()
    return False


def read_crds(archive: bytes, *, limits: ChartLimits) -> list[bytes]:
    """Return what Helm installs from ``crds/`` of the chart and its subcharts; InvalidChart if it cannot be opened.

    Blocks.
    """
    found = unpack(
        io.BytesIO(archive),
        budget=Budget(limits_of(limits)),
        keep=lambda path, _depth: _CRDS.fullmatch(path) is not None,
    )
    texts: list[bytes] = []
    waiting = [found]
    while waiting:
        node = waiting.pop()
        texts += node.files.values()
        waiting += node.nested.values()
    return texts


def read_schema(archive: bytes, *, limits: ChartLimits) -> bytes:
    """Return the chart's own ``values.schema.json``, empty without one; InvalidChart if it cannot be opened. Blocks."""
    found = unpack(
        io.BytesIO(archive), budget=Budget(limits_of(limits)), keep=lambda path, depth: depth == 0 and path == _SCHEMA
    )
    return found.files.get(_SCHEMA, b"")


def read_config(archive: bytes, *, limits: ChartLimits) -> bytes:
    """Return Chart.yaml as JSON with Helm's fields in Helm's order, as Helm sends it to registries. Blocks."""
    found = unpack(
        io.BytesIO(archive), budget=Budget(limits_of(limits)), keep=lambda path, depth: depth == 0 and path in _KEPT
    )
    fields = _read_fields(found.files, limits=limits)
    shown = ((name, _as_helm_has_it(fields.get(name), _SHAPES.get(name, ""))) for name in _FIELDS)
    return orjson.dumps({name: value for name, value in shown if value})


def limits_of(limits: ChartLimits) -> ArchiveLimits:
    """Return the settings that concern the archive itself."""
    return ArchiveLimits(
        unpacked_bytes=limits.unpacked_bytes, file_bytes=limits.file_bytes, files=limits.files, depth=limits.depth
    )


class _Measured:
    """Compute digest and size of a stream as it is read."""

    def __init__(self, source: BinaryIO) -> None:
        self._source = source
        self.digest = hashlib.sha256()
        self.size = 0

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        self.digest.update(data)
        self.size += len(data)
        return data


def _read_metadata(files: Mapping[str, bytes], *, limits: ChartLimits) -> dict[str, str]:
    """Return the text fields of Chart.yaml that we use, all present, the required ones checked.

    Helm overlays all of requirements.yaml on Chart.yaml, not only its dependencies.
    """
    fields = _read_fields(files, limits=limits)
    metadata = {
        key: _text(fields.get(key), key=key)
        for key in ("name", "version", "description", "icon", "appVersion", "type", "apiVersion")
    }
    _check_metadata(metadata)
    for key in ("description", "icon", "appVersion"):
        metadata[key] = _printable(metadata[key])
    return metadata


def _read_fields(files: Mapping[str, bytes], *, limits: ChartLimits) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    for file in ("Chart.yaml", "requirements.yaml"):
        document = read_document(files.get(file, b""), file=file, max_bytes=limits.values_bytes)
        if document is not None or file == "Chart.yaml":
            fields |= _fields(document, file=file)
    return fields


def _as_helm_has_it(value: Any, shape: Any) -> Any:
    """Return the value in the shape of Helm's field: a text unless it says otherwise; what fits none is left out."""
    found: Any = None
    match shape, value:
        case (("" | "always"), str() | bool() | int() | float()):
            found = _printable(_text(value, key="a field"))
        case ("any", _) | (bool(), bool()):
            found = value
        case [of], list():
            found = [text for item in value if (text := _as_helm_has_it(item, of))]
        case {"*": of}, dict():
            found = {key: _as_helm_has_it(item, of) or "" for key, item in value.items()}
        case dict(), dict():
            items = ((name, _as_helm_has_it(value.get(name), of)) for name, of in shape.items())
            found = {name: item or "" for name, item in items if item or shape[name] == "always"}
    return found


def _fields(document: Any, *, file: str) -> dict[str, Any]:
    """Return the fields as Helm fills them: keys in any case, in byte order; null changes nothing."""
    if not isinstance(document, dict):
        required = "apiVersion, name and version" if file == "Chart.yaml" else "the key 'dependencies'"
        raise InvalidChart(f"{file}: must be a mapping with {required}")
    return {
        _FOLDED_FIELDS.get(key.casefold(), key): document[key] for key in sorted(document) if document[key] is not None
    }


def _check_metadata(metadata: dict[str, str]) -> None:
    for key in ("apiVersion", "name", "version"):
        if not metadata[key]:
            raise InvalidChart(f"Chart.yaml: {key} is missing")
    if metadata["apiVersion"] not in ("v1", "v2"):
        raise InvalidChart(f"Chart.yaml: apiVersion {_shown(metadata['apiVersion'])} is not known; it is v1 or v2")
    name, version = metadata["name"], metadata["version"]
    if len(name) > _TEXT_LIMIT or not _NAME.fullmatch(name):
        raise InvalidChart(
            f"Chart.yaml: name {_shown(name)} must be letters, digits, '-', '_' and '.', begin and end with a letter "
            f"or digit, and have at most {_TEXT_LIMIT} characters"
        )
    if len(version) > _TEXT_LIMIT or not _VERSION.fullmatch(version):
        raise InvalidChart(
            f"Chart.yaml: version {_shown(version)} must be a semantic version such as 1.2.3 or 1.2.3-rc.1, "
            f"of at most {_TEXT_LIMIT} characters"
        )
    if metadata["type"] not in ("", "application", "library"):
        raise InvalidChart(f"Chart.yaml: type {_shown(metadata['type'])} is not known; it is application or library")


def _text(value: Any, *, key: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, bool | int | float):
        return go_text(value)
    raise InvalidChart(f"Chart.yaml: {key} must be text")


def _printable(text: str) -> str:
    """Collapse white space to single blanks and drop unprintable characters, as Helm stores such texts."""
    return "".join(" " if char.isspace() else char for char in text if char.isspace() or char.isprintable())


def _shown(text: str) -> str:
    # what looks like another letter is told apart
    return ascii(text if len(text) <= _TEXT_LIMIT else text[:_TEXT_LIMIT] + "...")
