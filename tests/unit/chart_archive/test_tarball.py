"""What a chart archive may look like on the outside: gzip, tar, names, sizes, nesting."""

import gzip
import hashlib
import io
import tarfile
import zlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.chart_archive.charts import ChartArchive, inspect_chart
from pilothouse.errors import InvalidChart
from pilothouse.settings import ChartLimits
from tests.support.archives import (
    CHART_YAML,
    HOSTILE_HEADERS,
    NEVER_IN_A_CHART,
    NO_WHOLE_ARCHIVES,
    header,
    named,
    raw_tar,
)
from tests.support.charts import build_chart, pack_archive

LIMITS = ChartLimits()


def inspect(archive: bytes, limits: ChartLimits = LIMITS) -> ChartArchive:
    return inspect_chart(archive, limits=limits)


def test_a_chart_is_read_from_bytes_and_from_a_file():
    archive = build_chart("demo", "1.2.3", values={"a": 1}, files={"README.md": "hello"})
    chart = inspect(archive)
    assert (chart.name, chart.version, chart.values, chart.readme_name) == ("demo", "1.2.3", {"a": 1}, "README.md")
    assert (chart.digest, chart.size) == (hashlib.sha256(archive).hexdigest(), len(archive))
    assert inspect_chart(io.BytesIO(archive), limits=LIMITS) == chart


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_each_common_tar_format_is_read_with_long_and_foreign_names(form: int):
    name = "demo/templates/" + "d" * 90 + "/" + "f" * 60 + ".yaml"
    foreign = [] if form == tarfile.USTAR_FORMAT else [(named("demo/файл-" + "ж" * 80), b"x")]
    assert inspect(gzip.compress(raw_tar((named(name), b"x"), *foreign, form=form))).name == "demo"


def test_folders_a_dot_as_top_folder_and_a_global_pax_header_are_fine():
    assert inspect(pack_archive({"./Chart.yaml": CHART_YAML, "./templates/./a.yaml": b""})).name == "demo"
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", pax_headers={"comment": "made by git"}) as archive:
        archive.addfile(named("demo/", tarfile.DIRTYPE))
        archive.addfile(named("demo/Chart.yaml", size=len(CHART_YAML)), io.BytesIO(CHART_YAML))
    assert inspect(gzip.compress(out.getvalue())).name == "demo"


def test_several_gzip_members_and_zero_padding_are_read_as_one_stream():
    tar = raw_tar()
    assert inspect(gzip.compress(tar[:700]) + gzip.compress(tar[700:])).name == "demo"
    assert inspect(gzip.compress(tar) + bytes(1000)).name == "demo"
    assert inspect(gzip.compress(tar.rstrip(b"\0") + bytes(-len(tar.rstrip(b"\0")) % 512))).name == "demo"


@pytest.mark.parametrize(
    ("archive", "said"),
    NO_WHOLE_ARCHIVES,
)
def test_what_is_no_whole_archive_is_refused(archive: bytes, said: str):
    with pytest.raises(InvalidChart, match=said):
        inspect(archive)


def test_a_flipped_bit_is_found():
    archive = bytearray(gzip.compress(raw_tar()))
    archive[-6] ^= 1
    with pytest.raises(InvalidChart, match="damaged"):
        inspect(bytes(archive))


@pytest.mark.parametrize(
    ("entry", "said"),
    NEVER_IN_A_CHART,
)
def test_what_a_chart_never_holds_is_refused(entry: tarfile.TarInfo, said: str):
    with pytest.raises(InvalidChart, match=said):
        inspect(gzip.compress(raw_tar(entry)))


@pytest.mark.parametrize(
    "entry",
    [
        named("demo/l", tarfile.SYMTYPE, linkname="/etc/passwd"),
        named("demo/l", tarfile.SYMTYPE, linkname="x" * 200),
        named("demo/l", tarfile.LNKTYPE, linkname="demo/Chart.yaml"),
        named("demo/d", tarfile.CHRTYPE),
        named("demo/d", tarfile.BLKTYPE),
        named("demo/f", tarfile.FIFOTYPE),
        named("demo/c", tarfile.CONTTYPE),
        named("other/x"),
        named("/x"),
        named("../x"),
        named("demo/a/../x"),
        named("demo\\templates\\x"),
        named("demo/._web.yaml"),
    ],
    ids=lambda entry: f"{entry.type!r} {entry.name}",
)
@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_what_helm_reads_is_read(entry: tarfile.TarInfo, form: int):
    assert inspect(gzip.compress(raw_tar(entry, form=form))).name == "demo"


def test_what_only_its_mode_calls_a_folder_is_one():
    block = header(b"demo/values.yaml", mode=b"040755\0\0")

    assert inspect(gzip.compress(raw_tar((named("demo/values.yaml"), b"a: 1"))[:2048] + block)).values == {"a": 1}


def test_a_link_is_an_empty_file():
    link = named("demo/values.yaml", tarfile.SYMTYPE, linkname="/etc/passwd")

    assert inspect(gzip.compress(raw_tar((named("demo/values.yaml"), b"a: 1"), link))).values == {}


def test_of_a_path_that_occurs_twice_the_last_file_counts():
    for again in ("demo/values.yaml", "demo/./values.yaml", "demo/x/../values.yaml", "other\\values.yaml"):
        archive = raw_tar((named("demo/values.yaml"), b"a: 1"), (named(again), b"a: 2"))
        assert inspect(gzip.compress(archive)).values == {"a": 2}


def test_of_a_subchart_that_occurs_twice_both_are_looked_into():
    sub = (named("demo/charts/a.tgz"), build_chart("a"))

    assert inspect(gzip.compress(raw_tar(sub, sub))).name == "demo"
    with pytest.raises(InvalidChart, match=r"charts/a\.tgz: not a gzip"):
        inspect(gzip.compress(raw_tar(sub, (sub[0], b"nothing"))))


@pytest.mark.parametrize(
    ("block", "said"),
    HOSTILE_HEADERS,
)
def test_a_hostile_header_is_refused(block: bytes, said: str):
    with pytest.raises(InvalidChart, match=said):
        inspect(gzip.compress(raw_tar()[:1024] + block + bytes(1024)))


def test_the_old_signed_checksum_is_read():
    block = bytearray(header("demo/ж".encode(), magic=b""))
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(byte - 256 if byte > 127 else byte for byte in block)
    assert inspect(gzip.compress(raw_tar()[:1024] + bytes(block) + bytes(1024))).name == "demo"


def test_subcharts_are_looked_into_and_named():
    inner = build_chart("inner", files={"x": b"1" * 100})
    assert inspect(build_chart(subcharts={"inner-0.1.0.tgz": inner})).name == "demo"
    with pytest.raises(InvalidChart, match=r"charts/inner\.tgz: not a gzip"):
        inspect(build_chart(subcharts={"inner.tgz": b"nothing"}))
    with pytest.raises(InvalidChart, match=r"charts/a/charts/inner\.tgz: not a gzip"):
        inspect(build_chart(files={"charts/a/charts/inner.tgz": b"nothing"}))
    sparse = gzip.compress(raw_tar(named("demo/l", tarfile.GNUTYPE_SPARSE)))
    with pytest.raises(InvalidChart, match=r"charts/outer\.tgz: charts/inner\.tgz: .*sparse"):
        inspect(build_chart(subcharts={"outer.tgz": build_chart("outer", subcharts={"inner.tgz": sparse})}))
    assert inspect(build_chart(subcharts={"_off.tgz": b"", ".off.tgz": b""}, files={"a/b.tgz": b""})).name == "demo"


def test_the_limits_hold_over_all_nested_archives_together():
    leaf = build_chart("leaf", files={"big": bytes(40_000)})
    two = build_chart(subcharts={"a.tgz": leaf, "b.tgz": leaf})
    assert inspect(two, LIMITS.model_copy(update={"unpacked_bytes": 200_000})).name == "demo"
    with pytest.raises(InvalidChart, match=r"charts/b\.tgz: unpacks to more than 80000 bytes"):
        inspect(two, LIMITS.model_copy(update={"unpacked_bytes": 80_000}))
    with pytest.raises(InvalidChart, match="more than 4 files"):
        inspect(two, LIMITS.model_copy(update={"files": 4}))
    with pytest.raises(InvalidChart, match=r"'demo/big' has 50000 bytes; the limit for one file is 40000"):
        inspect(build_chart(files={"big": bytes(50_000)}), LIMITS.model_copy(update={"file_bytes": 40_000}))


def test_nesting_is_limited():
    archive = build_chart("c0")
    for level in range(1, 5):
        archive = build_chart(f"c{level}", subcharts={"inner.tgz": archive})
    assert inspect(archive).name == "c4"
    with pytest.raises(InvalidChart, match="more than 4 deep"):
        inspect(build_chart("c5", subcharts={"inner.tgz": archive}))


VALID = build_chart(
    values={"a": {"b": [1, "x", None, True]}}, subcharts={"sub.tgz": build_chart("sub")}, files={"README": "x"}
)
VALID_TAR = gzip.decompress(VALID)


def _only_known_outcomes(archive: bytes) -> None:
    try:
        name = inspect(archive).name
    except InvalidChart:
        return
    assert name


@given(st.binary(max_size=2000))
def test_any_bytes_are_refused_or_read(data: bytes):
    _only_known_outcomes(data)
    _only_known_outcomes(b"\x1f\x8b\x08\0" + data)
    _only_known_outcomes(gzip.compress(data))


@settings(max_examples=300)
@given(st.data())
def test_a_changed_archive_is_refused_or_read(data: st.DataObject):
    tar = bytearray(VALID_TAR)
    for _ in range(data.draw(st.integers(1, 5))):
        position = data.draw(st.integers(0, len(tar) - 1))
        tar[position : position + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    for block in range(0, len(tar) - 512, 512):
        if data.draw(st.booleans()):
            head = tar[block : block + 512]
            head[148:156] = b" " * 8
            tar[block + 148 : block + 156] = b"%06o\0 " % sum(head)
    _only_known_outcomes(gzip.compress(bytes(tar)))
    packed = bytearray(VALID)
    packed[data.draw(st.integers(0, len(packed) - 1))] = data.draw(st.integers(0, 255))
    _only_known_outcomes(bytes(packed))
    _only_known_outcomes(VALID[: data.draw(st.integers(0, len(VALID)))])


def test_the_reader_survives_a_source_that_gives_one_byte_at_a_time():
    class Slow(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 1, 1))

    assert inspect_chart(Slow(VALID), limits=LIMITS) == inspect(VALID)


def test_a_stored_block_larger_than_a_piece_is_read():
    deflate = zlib.compressobj(0, wbits=31)
    noise = hashlib.shake_256(b"noise").digest(300_000)
    packed = deflate.compress(raw_tar((named("demo/noise"), noise))) + deflate.flush()
    assert inspect(packed).name == "demo"
