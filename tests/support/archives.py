"""Archives of every hostile kind that is known, and what is said of each when it is refused."""

import gzip
import io
import tarfile

from tests.support.charts import build_chart

CHART_YAML = b"apiVersion: v2\nname: demo\nversion: 1.2.3\n"
MIB = 1024 * 1024
NAMES = tuple(f"b{i}.tgz" for i in range(8))


def raw_tar(*entries: tarfile.TarInfo | tuple[tarfile.TarInfo, bytes], form: int = tarfile.PAX_FORMAT) -> bytes:
    """Return a tar that begins with a valid Chart.yaml, then holds the entries as they are."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=form) as archive:
        chart = tarfile.TarInfo("demo/Chart.yaml")
        chart.size = len(CHART_YAML)
        archive.addfile(chart, io.BytesIO(CHART_YAML))
        for entry in entries:
            info, content = entry if isinstance(entry, tuple) else (entry, b"")
            info.size = len(content) or info.size
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()


def named(name: str, kind: bytes = tarfile.REGTYPE, **fields: object) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    for key, value in fields.items():
        setattr(info, key, value)
    return info


def header(
    name: bytes,
    *,
    size: bytes = b"00000000000\0",
    kind: bytes = b"0",
    magic: bytes = b"ustar\x0000",
    mode: bytes = b"0000644\0",
) -> bytes:
    """Return a header block as bytes, for what tarfile refuses to write."""
    block = bytearray(512)
    block[: len(name)] = name
    block[100:108] = mode
    block[124:136] = size
    block[148:156] = b" " * 8
    block[156:157] = kind
    block[257 : 257 + len(magic)] = magic
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


#: Bytes that are no whole archive, and what is said of each.
NO_WHOLE_ARCHIVES = [
    (b"", "empty"),
    (b"PK\x03\x04 a zip file", "not a gzip file"),
    (gzip.compress(b""), "no Chart.yaml"),
    (gzip.compress(b"hello"), "not a whole tar"),
    (gzip.compress(b"x" * 2048), "not a tar"),
    (gzip.compress(bytes(10240)), "no Chart.yaml"),
    (gzip.compress(raw_tar())[:-9], "ends too early"),
    (gzip.compress(raw_tar())[:40], "ends too early"),
    (gzip.compress(raw_tar()[:530]), "in the middle of a file"),
    (gzip.compress(raw_tar()[:-1024] + b"x"), "not a whole tar|after the end"),
    (gzip.compress(raw_tar() + b"more"), "after the end of the tar"),
    (gzip.compress(raw_tar()) + b"more", "after the end of the gzip"),
    (gzip.compress(raw_tar()) + gzip.compress(b"more"), "after the end of the tar"),
    (gzip.compress(raw_tar()) + b"\x1f", "after the end of the gzip"),
    (gzip.compress(raw_tar()) + gzip.compress(b"") * 1001, "members"),
]
#: Entries that no chart holds.
NEVER_IN_A_CHART = [
    (named("demo/s", tarfile.GNUTYPE_SPARSE), "sparse"),
    (named("demo/v", b"V"), "entry of type"),
    (named("//demo/x"), "absolute"),
    (named("demo//x"), "absolute"),
    (named("demo\\/x"), "absolute"),
    (named("demo/../x"), "out of the chart's folder"),
    (named("demo/a/../../x"), "out of the chart's folder"),
    (named("demo\\..\\x"), "out of the chart's folder"),
    (named("demo/c:/x"), "drive"),
    (named("x"), "outside the chart's folder"),
    (named("demo"), "outside the chart's folder"),
    (named("demo/."), "outside the chart's folder"),
    (named("Chart.yaml/x"), "not in a folder"),
    (named("demo/templates/._web.yaml"), "macOS"),
    (named("demo/charts/a/templates/sub/._web.yaml"), "macOS"),
    (named("demo/a\nb"), "control characters"),
    (named("demo/a\x7fb"), "control characters"),
    (named("demo/s", pax_headers={"GNU.sparse.major": "1"}), "pax record"),
    (named("demo/s", pax_headers={"size": "0"}), "pax record"),
    (named("demo/s", pax_headers={"comment": "x" * 70_000}), "extension header of"),
]
#: Header blocks that tarfile would not write.
HOSTILE_HEADERS = [
    (header(b"demo/\xff"), "not UTF-8"),
    (header(b"demo/x", size=b"\x80" + b"\xff" * 11), "not octal"),
    (header(b"demo/x", size=b"-0000000001\0"), "not octal"),
    (header(b"demo/x", size=b"0o000000001\0"), "not octal"),
    (header(b"demo/x", size=b"77777777777\0"), "limit for one file"),
    (header(b"", size=b"00000000000\0"), "empty"),
    (header(b"demo/", kind=b"5", size=b"00000000010\0"), "has content"),
    (header(b"demo/l", kind=b"1", size=b"00000000010\0"), "has content"),
    (header(b"demo/l", mode=b"040755\0\0", size=b"00000000010\0"), "has content"),
    (header(b"x", kind=b"L", size=b"77777777777\0"), "extension header of"),
    (header(b"x", kind=b"x", size=b"00000000010\0") + b"999 path".ljust(512, b"\0"), "damaged pax"),
    (header(b"x", kind=b"x", size=b"00000000010\0") + b"8 path=\n".ljust(512, b"\0"), "empty|ends after"),
    (header(b"x", kind=b"L", size=b"00000000003\0") + b"abc".ljust(512, b"\0"), "ends after an extension"),
    ((header(b"x", kind=b"L", size=b"00000000003\0") + b"abc".ljust(512, b"\0")) * 2, "two long names"),
    (header(b"demo/x", kind=b"0")[:-4] + b"tar\0", "star|checksum"),
]


def zeros(size: int, count: int = 1) -> bytes:
    return gzip.compress(raw_tar(*((named(f"demo/z{i}"), bytes(size)) for i in range(count))), 9)


#: Archives that cost far more than they weigh, and ones that are as large as is allowed.
BOMBS = {
    "eight archives of 95 MiB": lambda: build_chart(subcharts=dict.fromkeys(NAMES, zeros(95 * MIB))),
    "eight archives of 19 files": lambda: build_chart(subcharts=dict.fromkeys(NAMES, zeros(5 * MIB, 19))),
    "archives inside archives": lambda: build_chart(
        subcharts=dict.fromkeys(NAMES, build_chart(subcharts=dict.fromkeys(NAMES, zeros(5 * MIB, 19))))
    ),
    "zeros after the end": lambda: gzip.compress(raw_tar() + bytes(200 * MIB), 9),
    "many empty files": lambda: gzip.compress(raw_tar(*(named(f"demo/{i}") for i in range(50_000))), 9),
    "many extension headers": lambda: gzip.compress(raw_tar()[:1024] + header(b"x", kind=b"g") * 200_000, 9),
    "many gzip members": lambda: gzip.compress(raw_tar()[:1024]) + gzip.compress(b"") * 500_000,
    "alias bomb": lambda: build_chart(
        values="a: &a [x,x,x,x,x,x,x,x]\n" + "".join(f"a{i}: &a [{','.join(['*a'] * 9)}]\n" for i in range(30))
    ),
    "long text often": lambda: build_chart(values=f"a: &a {'x' * 500_000}\nb: [" + "*a," * 10_000 + "]\n"),
    "deep aliases": lambda: build_chart(
        values=f"a: &a {'[' * 60}{']' * 60}\n" + f"b: &a {'[' * 60}*a{']' * 60}\n" * 1000
    ),
    "deep flow": lambda: build_chart(values="a: " + "[" * 1_000_000),
    "deep blocks": lambda: build_chart(values="- " * 1_000_000),
    "many small values": lambda: build_chart(values="a: [" + "1," * 2_000_000 + "]"),
    "tag directives": lambda: build_chart(values="".join(f"%TAG !{i}! x\n" for i in range(100_000)) + "---\na: 1\n"),
    "many documents": lambda: build_chart(values="a: {b: 1}\n---\n" * 300_000),
}
COSTLY = {
    "long number": lambda: build_chart(values="a: " + "9" * 1_000_000),
    "long hexadecimal": lambda: build_chart(values="a: 0x" + "f" * 1_000_000),
    "comments": lambda: build_chart(values="# x\n" * 1_200_000),
    "full": lambda: build_chart(files={f"f{i}": bytes(MIB) for i in range(95)}),
}
