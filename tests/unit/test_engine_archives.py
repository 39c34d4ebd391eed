"""What the library gets to open was written by us: same content, bounded, no reference that leaves the archive."""

import gzip
import io
import json
import tarfile

import pytest

from pilothouse.archive.budget import ArchiveLimits
from pilothouse.archive.charts import inspect_chart
from pilothouse.engine.archives import canonical_archive
from pilothouse.errors import HelmRefused
from pilothouse.settings import ChartLimits
from tests.support.charts import build_chart, config_map_chart, pack_archive, read_archive, web_chart

_MIB = 1024 * 1024


def _canonical(archive: bytes, *, unpacked_bytes: int = 100 * _MIB, files: int = 10_000, depth: int = 4) -> bytes:
    limits = ArchiveLimits(unpacked_bytes=unpacked_bytes, file_bytes=5 * _MIB, files=files, depth=depth)
    return canonical_archive(archive, limits=limits)


def _below(archive: bytes) -> dict[str, bytes]:
    """The files by their paths below the top folder."""
    return {path.partition("/")[2]: content for path, content in read_archive(archive).items()}


def test_every_file_of_the_chart_is_kept():
    archive = web_chart()
    assert _below(_canonical(archive)) == _below(archive)


def test_packed_and_unpacked_subcharts_are_kept():
    inner = config_map_chart("inner")
    archive = build_chart(subcharts={"inner-0.1.0.tgz": inner}, unpacked_subcharts=[config_map_chart("flat")])
    kept = _below(_canonical(archive))
    assert _below(kept["charts/inner-0.1.0.tgz"]) == _below(inner)
    assert "charts/flat/templates/config.yaml" in kept


def test_padding_behind_the_gzip_data_is_passed_over():
    assert _below(_canonical(web_chart() + bytes(1000))) == _below(web_chart())


def test_the_same_archive_gives_the_same_bytes():
    assert _canonical(web_chart()) == _canonical(web_chart())


def test_folders_are_left_out_and_names_are_clean():
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        for name, kind in (("./", tarfile.DIRTYPE), ("./Chart.yaml", tarfile.REGTYPE), ("./a/./b", tarfile.REGTYPE)):
            entry = tarfile.TarInfo(name)
            entry.type = kind
            archive.addfile(entry)
    with tarfile.open(fileobj=io.BytesIO(_canonical(raw.getvalue()))) as written:
        assert written.getnames() == ["chart/Chart.yaml", "chart/a/b"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE])
def test_links_and_devices_become_empty_files(kind: bytes):
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w:gz") as archive:
        archive.addfile(tarfile.TarInfo("d/Chart.yaml"))
        entry = tarfile.TarInfo("d/odd")
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    with tarfile.open(fileobj=io.BytesIO(_canonical(raw.getvalue()))) as written:
        assert [(entry.type, entry.name, entry.size) for entry in written] == [
            (tarfile.REGTYPE, "chart/Chart.yaml", 0),
            (tarfile.REGTYPE, "chart/odd", 0),
        ]


def test_a_bomb_is_refused_after_the_limit_and_no_more():
    bomb = pack_archive({f"d/{number}": bytes(5 * _MIB) for number in range(10)})
    with pytest.raises(HelmRefused, match="unpacks to more than 1048576 bytes"):
        _canonical(bomb, unpacked_bytes=_MIB)


def test_the_limit_counts_nested_archives_together():
    big = pack_archive({"b/Chart.yaml": b"", "b/blob": bytes(4 * _MIB)})
    archive = build_chart(subcharts={f"s{number}.tgz": big for number in range(4)})
    assert len(archive) < 100_000
    with pytest.raises(HelmRefused, match="the limit for a chart with all archives"):
        _canonical(archive, unpacked_bytes=12 * _MIB)


def test_the_number_of_files_is_limited():
    archive = pack_archive({f"d/{number}": b"" for number in range(20)})
    with pytest.raises(HelmRefused, match="more than 10 files"):
        _canonical(archive, files=10)


def test_archives_may_not_nest_for_ever():
    archive = config_map_chart("leaf")
    for level in range(3):
        archive = build_chart(f"l{level}", subcharts={"in.tgz": archive})
    assert _canonical(archive, depth=3)
    with pytest.raises(HelmRefused, match="more than 2 deep, the limit"):
        _canonical(archive, depth=2)


@pytest.mark.parametrize(
    ("archive", "reason"),
    [
        (b"", "empty"),
        (b"hello", "not a gzip file"),
        (web_chart()[:-200], "ends too early"),
        (gzip.compress(b"x" * 2000), "not a tar"),
        (gzip.compress(gzip.decompress(web_chart())[:700]), "in the middle of a file"),
    ],
)
def test_what_is_no_archive_is_refused_with_the_reason(archive: bytes, reason: str):
    with pytest.raises(HelmRefused, match=reason) as refused:
        _canonical(archive)
    assert refused.value.kind == "HelmChartLoadError"


def test_a_broken_header_in_the_middle_is_not_taken_for_the_end():
    raw = bytearray(gzip.decompress(pack_archive({"d/Chart.yaml": b"a", "d/values.yaml": b"b"})))
    raw[1024 + 148 : 1024 + 156] = b"garbage!"
    with pytest.raises(HelmRefused, match="not a tar, or a damaged one"):
        _canonical(gzip.compress(bytes(raw)))


_REMOTE = "http://127.0.0.1:9/schema.json"


@pytest.mark.parametrize(
    "schema",
    [
        {"$ref": _REMOTE},
        {"$ref": "file:///etc/passwd"},
        {"$ref": "other.json"},
        {"$id": "http://127.0.0.1:9/", "$ref": "other.json"},
        {"properties": {"a": {"items": [{"$ref": _REMOTE}]}}},
        {"$dynamicRef": _REMOTE},
        {"$recursiveRef": _REMOTE},
        {"$schema": _REMOTE},
        {"$schema": "http://json-schema.org/draft-07/../../x"},
    ],
)
@pytest.mark.parametrize("place", ["root", "packed subchart", "unpacked subchart", "subchart of a subchart"])
def test_a_schema_that_leads_elsewhere_is_refused_wherever_it_lies(schema: dict[str, object], place: str):
    text = json.dumps(schema)
    inner = build_chart("inner", schema=text)
    archive = {
        "root": build_chart(schema=text),
        "packed subchart": build_chart(subcharts={"inner-0.1.0.tgz": inner}),
        "unpacked subchart": build_chart(unpacked_subcharts=[inner]),
        "subchart of a subchart": build_chart(
            subcharts={"mid.tgz": build_chart("mid", subcharts={"inner.tgz": inner})}
        ),
    }[place]
    with pytest.raises(HelmRefused, match="only references within the file"):
        _canonical(archive)


@pytest.mark.parametrize(
    "text",
    [
        '{"$ref": "http://127.0.0.1:9/x", "$ref": "#/a"}',
        '{"\\u0024ref": "http:\\/\\/127.0.0.1:9/x"}',
        '\ufeff{"$ref": "http://127.0.0.1:9/x"}',
    ],
)
def test_a_disguised_reference_is_seen(text: str):
    with pytest.raises(HelmRefused, match="only references within the file"):
        _canonical(build_chart(schema=text))


@pytest.mark.parametrize(
    "path",
    ["demo/./values.schema.json", "demo/x/../values.schema.json", "demo\\values.schema.json", "x/values.schema.json"],
)
def test_a_schema_under_an_odd_path_is_still_a_schema(path: str):
    archive = pack_archive({"demo/Chart.yaml": b"", path: json.dumps({"$ref": _REMOTE}).encode()})
    with pytest.raises(HelmRefused, match="only references within the file"):
        _canonical(archive)


@pytest.mark.parametrize(
    "schema",
    [
        {"$schema": "http://json-schema.org/draft-07/schema#", "$ref": "#/definitions/a", "definitions": {"a": {}}},
        {"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object"},
        {"properties": {"$ref": {"type": "string"}}},
        {"$id": "http://example.com/values.json", "type": "object"},
    ],
)
def test_an_honest_schema_passes(schema: dict[str, object]):
    assert _canonical(build_chart(schema=json.dumps(schema)))


def test_a_schema_that_is_no_json_is_refused():
    with pytest.raises(HelmRefused, match="not a JSON document"):
        _canonical(build_chart(schema="{'type': 'object'}"))


@pytest.mark.parametrize(
    "archive",
    [
        gzip.compress(gzip.decompress(web_chart())[:700]) + gzip.compress(gzip.decompress(web_chart())[700:]),
        gzip.compress(gzip.decompress(web_chart()) + bytes(100_000)),
        pack_archive({"./Chart.yaml": b"apiVersion: v2\nname: web\nversion: 1.0.0\n", "./templates/./a.yaml": b""}),
        build_chart(subcharts={"_off.tgz": b"no archive", ".off.tgz": b"neither"}, files={"docs/x.tgz": b"nor this"}),
        build_chart(files={"charts/a/charts/in.tgz": build_chart("in")}),
    ],
    ids=["two-members", "long-end", "dot-folder", "no-archives", "packed-in-unpacked"],
)
def test_what_the_look_at_an_upload_accepts_can_be_opened(archive: bytes):
    inspected = inspect_chart(archive, limits=ChartLimits())
    again = inspect_chart(_canonical(archive), limits=ChartLimits())
    assert (again.name, again.version, again.values) == (inspected.name, inspected.version, inspected.values)
