"""Charts arrive in every form that a client sends, and what is no chart is refused with its reason."""

import gzip
import io
import json
import tarfile
import uuid
import zlib
from collections.abc import Callable
from typing import Any

import httpx2
import pytest

from tests.support.charts import build_chart, config_map_chart, pack_archive
from tests.support.servers import RunningServer
from tests.support.wire import assert_error, exchange

INVALID = (400, "CCE.01400001")
BOUNDARY = "0123456789abcdef0123456789abcdef"
FORM = ("Content-Type", f"multipart/form-data; boundary={BOUNDARY}")
UNSIGNED = ("X-Sdk-Content-Sha256", "UNSIGNED-PAYLOAD")
FIELDS = {
    "id": str,
    "name": str,
    "values": str,
    "translate": str,
    "instruction": str,
    "version": str,
    "description": str,
    "source": str,
    "icon_url": str,
    "public": bool,
    "chart_url": str,
    "create_at": str,
    "update_at": str,
}


def form(*parts: tuple[str, bytes], end: bool = True) -> bytes:
    """Return a form of parts, each with its head after ``Content-Disposition: form-data; ``."""
    pieces = [
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {head}\r\n\r\n".encode() + content + b"\r\n"
        for head, content in parts
    ]
    return b"".join(pieces) + (f"--{BOUNDARY}--\r\n".encode() if end else b"")


def send(server: RunningServer, body: bytes, **options: Any) -> httpx2.Response:
    return exchange(server, "POST", "/v2/charts", headers=[FORM], body=body, **options)


def fresh_name() -> str:
    return f"chart-{uuid.uuid4().hex[:10]}"


def names_of_charts(server: RunningServer) -> list[str]:
    return [chart["name"] for chart in server.send("GET", "/v2/charts").json()]


PARAMETERS = ('name="parameters"', b'{"override": true, "skip_lint": true, "source": "package"}')
FORMS: dict[str, list[tuple[str, bytes | None]]] = {
    "content-alone": [('name="content"; filename="chart.tgz"', None)],
    "python-sdk": [PARAMETERS, ('name="content"; filename="web-1.0.0.tgz"', None)],
    "terraform": [
        ('name="content"; filename="./some/where/x-1.0.tgz"\r\nContent-Type: application/octet-stream', None),
        PARAMETERS,
    ],
    "absolute-path": [('name="content"; filename="/home/me/x.tgz"', None), PARAMETERS],
    "windows-path": [('name="content"; filename="C:\\Users\\me\\x.tgz"', None)],
    "curl": [PARAMETERS, ('name="content"; filename="x.tgz"\r\nContent-Type: application/x-compressed-tar', None)],
    "non-ascii-file-name": [('name="content"; filename="\u56fe-\u00fc.tgz"', None)],
    "no-file-name": [('name="content"', None)],
    "empty-file-name": [('name="content"; filename=""', None)],
    "typed-parameters": [
        ('name="parameters"\r\nContent-Type: application/json;charset=utf-8', b'{"override": true}'),
        ('name="content"; filename="x.tgz"', None),
    ],
    "parameters-as-file": [
        ('name="parameters"; filename="parameters.json"', b'{"override": true}'),
        ('name="content"; filename="x.tgz"', None),
    ],
    "part-with-length": [
        ('name="content"; filename="x.tgz"\r\nContent-Length: 99\r\nContent-Transfer-Encoding: binary', None)
    ],
    "empty-parameters": [('name="parameters"', b""), ('name="content"; filename="x.tgz"', None)],
    "null-parameters": [
        ('name="parameters"', b'{"override": null, "visible": null, "source": null, "unknown": [1]}'),
        ('name="content"; filename="x.tgz"', None),
    ],
    "unknown-parts": [
        ('name="other"', b"whatever"),
        ('name="file"; filename="x.bin"', b"\x00\x01"),
        ('name="content"; filename="x.tgz"', None),
        ('name=""', b""),
    ],
}


@pytest.mark.parametrize("parts", FORMS.values(), ids=FORMS.keys())
def test_a_chart_arrives_in_every_form_that_clients_send(server: RunningServer, parts: list[tuple[str, bytes | None]]):
    name = fresh_name()
    archive = config_map_chart(name, "1.0.0")
    body = form(*((head, archive if content is None else content) for head, content in parts))
    answer = send(server, body)
    assert answer.status_code == 201, answer.text
    assert (answer.json()["name"], answer.json()["version"]) == (name, "1.0.0")
    assert answer.json()["chart_url"] == f"{name}-1.0.0.tgz"


@pytest.mark.parametrize("chunked", [True, False], ids=["chunked-like-java", "with-length-like-python"])
def test_a_chart_arrives_with_an_unsigned_payload(server: RunningServer, chunked: bool):  # noqa: FBT001
    name = fresh_name()
    body = form(PARAMETERS, ('name="content"; filename="x.tgz"', config_map_chart(name)))
    answer = exchange(
        server,
        "POST",
        "/v2/charts",
        headers=[FORM, UNSIGNED],
        signed=["x-sdk-content-sha256"],
        body=body,
        chunked=chunked,
    )
    assert (answer.status_code, answer.json().get("name")) == (201, name)


def test_a_chart_of_many_chunks_and_megabytes_arrives(server: RunningServer):
    name = fresh_name()
    noise = "".join(uuid.uuid4().hex for _ in range(60_000))
    archive = build_chart(name, files={"noise.txt": noise})
    assert len(archive) > 1_000_000  # over what the gateway keeps in memory
    answer = send(server, form(('name="content"; filename="x.tgz"', archive)), chunked=True)
    assert (answer.status_code, answer.json().get("name")) == (201, name)


def test_the_answer_has_the_13_fields(server: RunningServer):
    name = fresh_name()
    archive = build_chart(
        name,
        "1.2.3-rc.1+build.5",
        values={"b": 1, "a": {"\u00fc": [True, None, 1.5]}},
        files={"README.md": "# Read me"},
        metadata={"description": "A chart, \u4e2d\u6587", "icon": "https://example.com/icon.png"},
    )
    answer = server.upload(archive, parameters='{"source": "package"}', filename="misleading-9.9.9.tgz")
    assert answer.status_code == 201, answer.text
    chart = answer.json()
    assert {field: type(value) for field, value in chart.items()} == FIELDS
    assert chart["values"] == '{"a":{"\u00fc":[true,null,1.5]},"b":1}'
    assert {key: chart[key] for key in chart if key not in {"id", "values", "create_at", "update_at"}} == {
        "name": name,
        "translate": "",
        "instruction": "README.md",
        "version": "1.2.3-rc.1+build.5",
        "description": "A chart, \u4e2d\u6587",
        "source": "package",
        "icon_url": "https://example.com/icon.png",
        "public": False,
        "chart_url": f"{name}-1.2.3-rc.1+build.5.tgz",
    }
    assert chart["create_at"].endswith("Z")
    assert len(chart["create_at"]) == len("2021-05-08T08:53:13Z")
    assert server.send("GET", f"/v2/charts/{chart['id']}").json() == chart
    assert chart in server.send("GET", "/v2/charts").json()


def test_an_existing_version_is_a_conflict_unless_overridden_which_keeps_the_id(server: RunningServer):
    name = fresh_name()
    first = server.upload(config_map_chart(name, "1.0.0", text="first")).json()
    again = config_map_chart(name, "1.0.0", text="second")
    for parameters in (None, "", "{}", '{"override": false}', '{"override": null}'):
        answer = server.upload(again, parameters=parameters)
        assert_error(answer, 409, "CCE.01409001", name, "1.0.0", "override")
    assert server.send("GET", f"/v2/charts/{first['id']}").json() == first

    second = server.upload(again, parameters='{"override": true}')
    assert second.status_code == 201, second.text
    assert (second.json()["id"], second.json()["create_at"]) == (first["id"], first["create_at"])
    assert json.loads(second.json()["values"]) == {"text": "second"}
    other = server.upload(config_map_chart(name, "1.0.1"))
    assert other.json()["id"] != first["id"]
    assert names_of_charts(server).count(name) == 2


@pytest.mark.parametrize(
    ("parameters", "word"),
    [
        ("{", "parameters"),
        ("override=true", "parameters"),
        ("[]", "parameters"),
        ('"{}"', "parameters"),
        ("null", "parameters"),
        ("true", "parameters"),
        ('{"override": "true"}', "override"),
        ('{"override": 1}', "override"),
        ('{"skip_lint": "no"}', "skip_lint"),
        ('{"visible": {}}', "visible"),
        ('{"source": 5}', "source"),
        ('{"source": "\\u0000"}', "source"),
        ('{"source": "' + "x" * 70_000 + '"}', ""),
    ],
    ids=lambda value: repr(value)[:24],
)
def test_bad_parameters_are_refused_and_the_chart_is_not_stored(server: RunningServer, parameters: str, word: str):
    name = fresh_name()
    assert_error(server.upload(config_map_chart(name), parameters=parameters), *INVALID, word)
    assert name not in names_of_charts(server)


def test_parameters_that_are_not_utf8_are_refused(server: RunningServer):
    archive = config_map_chart(fresh_name())
    body = form(('name="parameters"', b'{"source": "\xff"}'), ('name="content"; filename="x.tgz"', archive))
    assert_error(send(server, body), *INVALID, "parameters: not UTF-8 text")


@pytest.mark.parametrize(
    "body",
    [
        form(PARAMETERS),
        form(('name="contents"; filename="x.tgz"', b"x")),
        form(),
        form(('name="content"; filename="x.tgz"', b"data"), end=False)[:-20],
        b"",
        b"no form at all",
        form(('name="content"; filename="x.tgz"', b"data")).replace(BOUNDARY.encode(), b"another-boundary"),
        b"--" + BOUNDARY.encode() + b"\r\nno header here\r\n\r\nx\r\n",
    ],
    ids=["parameters-only", "misspelt", "no-parts", "cut", "empty", "text", "other-boundary", "no-disposition"],
)
def test_a_form_without_content_is_refused(server: RunningServer, body: bytes):
    assert_error(send(server, body), *INVALID)


@pytest.mark.parametrize(
    "content_type",
    ["application/json", "application/octet-stream", "application/gzip", "application/x-www-form-urlencoded", ""],
)
def test_an_upload_that_is_no_form_is_refused(server: RunningServer, content_type: str):
    answer = exchange(
        server, "POST", "/v2/charts", headers=[("Content-Type", content_type)], body=config_map_chart(fresh_name())
    )
    assert_error(answer, 400, "CCE.01400006", "multipart/form-data")


@pytest.mark.parametrize("content_type", ["multipart/form-data", "multipart/form-data; boundary="])
def test_a_form_without_a_boundary_is_refused(server: RunningServer, content_type: str):
    body = form(('name="content"; filename="x.tgz"', config_map_chart(fresh_name())))
    answer = exchange(server, "POST", "/v2/charts", headers=[("Content-Type", content_type)], body=body)
    assert_error(answer, *INVALID, "form")


def _with_entry(kind: bytes, *, name: str = "demo/odd") -> bytes:
    """Return a chart that also holds an entry of that kind."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        chart = tarfile.TarInfo("demo/Chart.yaml")
        chart.size = len(CHART_YAML)
        archive.addfile(chart, io.BytesIO(CHART_YAML))
        entry = tarfile.TarInfo(name)
        entry.type, entry.linkname = kind, "/etc/passwd"
        archive.addfile(entry)
    return gzip.compress(raw.getvalue())


def _nested_bomb() -> bytes:
    """Eight archives of 95 MB in one of a few KiB."""
    zeros = pack_archive({"b/Chart.yaml": CHART_YAML} | {f"b/{n}": bytes(5_000_000) for n in range(19)}, level=9)
    inner = pack_archive({"b/Chart.yaml": CHART_YAML, "b/charts/zeros.tgz": zeros}, level=9)
    return build_chart(subcharts={f"b{n}.tgz": inner for n in range(8)})


def _nested(levels: int) -> bytes:
    archive = build_chart()
    for _ in range(levels - 1):
        archive = build_chart(subcharts={"in.tgz": archive})
    return archive


CHART_YAML = b"apiVersion: v2\nname: demo\nversion: 0.1.0\n"
WHOLE = build_chart("demo", "0.1.0", files={"README.md": "x" * 5000 + uuid.uuid4().hex})
NO_CHARTS: dict[str, tuple[bytes | Callable[[], bytes], str]] = {
    "empty": (b"", "empty"),
    "text": (b"this is no archive", "gzip"),
    "zip": (b"PK\x03\x04" + bytes(100), "gzip"),
    "truncated": (WHOLE[: len(WHOLE) // 2], "too early"),
    "one-byte-missing": (WHOLE[:-1], "too early"),
    "damaged": (WHOLE[:40] + b"\x00\xff\x00\xff" + WHOLE[44:], ""),
    "gzip-of-text": (gzip.compress(b"just text"), "tar"),
    "gzip-of-nothing": (gzip.compress(b""), ""),
    "no-chart-yaml": (pack_archive({"demo/values.yaml": b"a: 1\n"}), "Chart.yaml"),
    "no-folder": (pack_archive({"Chart.yaml": CHART_YAML}), "folder"),
    "zip-slip": (pack_archive({"demo/Chart.yaml": CHART_YAML, "demo/../../evil": b"x"}), "leads out"),
    "absolute": (pack_archive({"demo/Chart.yaml": CHART_YAML, "//etc/evil": b"x"}), "absolute"),
    "backslash": (pack_archive({"demo/Chart.yaml": CHART_YAML, "demo\\..\\evil": b"x"}), "leads out"),
    "sparse-file": (_with_entry(tarfile.GNUTYPE_SPARSE), "sparse"),
    "link-in-place-of-chart-yaml": (_with_entry(tarfile.SYMTYPE, name="demo/Chart.yaml"), "Chart.yaml"),
    "made-by-macos": (
        pack_archive({"demo/Chart.yaml": CHART_YAML, "demo/templates/._web.yaml": b"\0\5\x16\7"}),
        "macOS",
    ),
    "nested-bomb": (_nested_bomb, "104857600"),
    "nested-too-deep": (_nested(6), "more than 4 deep"),
    "100000-files": (
        lambda: pack_archive({"demo/Chart.yaml": CHART_YAML} | {f"demo/{n}": b"" for n in range(100_000)}, level=1),
        "10000",
    ),
    "gzip-in-gzip": (gzip.compress(WHOLE), "tar"),
    "gzip-of-zip": (gzip.compress(b"PK\x03\x04" + bytes(1020)), "tar"),
    "deflate-without-gzip": (zlib.compress(b"x"), "gzip"),
    "wrong-check-sum": (WHOLE[:-8] + bytes(4) + WHOLE[-4:], "damaged"),
    "chart-yaml-not-utf8": (pack_archive({"demo/Chart.yaml": CHART_YAML + b"description: \xff\n"}), "UTF-8"),
    "values-not-utf8": (pack_archive({"demo/Chart.yaml": CHART_YAML, "demo/values.yaml": b"a: \xff\n"}), "UTF-8"),
    "chart-yaml-in-a-subfolder": (pack_archive({"demo/sub/Chart.yaml": CHART_YAML}), "Chart.yaml"),
    "schema-over-http": (build_chart(schema='{"$ref": "http://127.0.0.1:9/x"}'), "only references within the file"),
    "schema-of-a-file": (build_chart(schema='{"$ref": "file:///etc/passwd"}'), "only references within the file"),
    "schema-in-a-subchart": (
        build_chart(subcharts={"in.tgz": build_chart("in", schema='{"$ref": "http://127.0.0.1:9/x"}')}),
        "charts/in.tgz: values.schema.json",
    ),
    "file-bomb": (
        lambda: pack_archive({"demo/Chart.yaml": CHART_YAML, "demo/bomb": bytes(6 * 1024 * 1024)}),
        "5242880",
    ),
    "archive-bomb": (
        lambda: pack_archive(
            {"demo/Chart.yaml": CHART_YAML} | {f"demo/{n}": bytes(5 * 1024 * 1024) for n in range(21)}, level=1
        ),
        "104857600",
    ),
    "many-files": (
        lambda: pack_archive({"demo/Chart.yaml": CHART_YAML} | {f"demo/{n}": b"" for n in range(10_001)}, level=1),
        "10000",
    ),
    "yaml-broken": (pack_archive({"demo/Chart.yaml": b"name: [\n"}), "Chart.yaml"),
    "yaml-list": (pack_archive({"demo/Chart.yaml": b"- a\n"}), "Chart.yaml"),
    "no-version": (build_chart(metadata={"version": None}), "version"),
    "no-name": (build_chart(metadata={"name": None}), "name"),
    "bad-version": (build_chart(version="one"), "version"),
    "name-leads-out": (build_chart(metadata={"name": "../demo"}), "name"),
    "unknown-type": (build_chart(chart_type="plugin"), "type"),
    "values-broken": (build_chart(values="a: [\n"), "values.yaml"),
    "values-list": (build_chart(values="- a\n"), "values.yaml"),
}


@pytest.mark.parametrize(("archive", "word"), NO_CHARTS.values(), ids=NO_CHARTS.keys())
def test_an_archive_that_is_no_chart_is_refused_with_its_reason(
    server: RunningServer, archive: bytes | Callable[[], bytes], word: str
):
    before = names_of_charts(server)
    message = assert_error(server.upload(archive() if callable(archive) else archive), *INVALID, word)
    assert message.strip()
    assert names_of_charts(server) == before


def test_two_archives_in_one_form_are_refused(server: RunningServer):
    name = fresh_name()
    part = ('name="content"; filename="x.tgz"', config_map_chart(name))
    assert_error(send(server, form(part, part)), *INVALID, "content", "twice")
    assert name not in names_of_charts(server)


def test_a_chart_over_the_body_limit_is_refused(server: RunningServer):
    assert_error(server.upload(bytes(12 * 1024 * 1024)), 413, "APIGW.0201")


@pytest.mark.parametrize("chart_id", ["nope", "6f9619ff-8b86-d011-b42d-00c04fc964ff", "%F0%9F%9A%80", "x" * 3000])
def test_an_unknown_chart_is_not_found(server: RunningServer, chart_id: str):
    answer = exchange(server, "GET", f"/v2/charts/{chart_id}")
    assert_error(answer, 404, "CCE.01404001", "does not exist")
