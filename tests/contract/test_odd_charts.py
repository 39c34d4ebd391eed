"""Archives and metadata that few people write and Helm reads: what ``helm template`` makes of them is installed."""

import gzip
import io
import tarfile
import uuid
from pathlib import Path

import pytest
import yaml

from tests.support.charts import build_chart, config_map_template, pack_archive
from tests.support.releases import HelmCommand, OneRelease
from tests.support.servers import RunningServer

CHART = b"apiVersion: v2\nname: odd\nversion: 0.1.0\n"
TEMPLATE = config_map_template().encode()
VALUES = b"text: hello\n"
FILES = {"odd/Chart.yaml": CHART, "odd/values.yaml": VALUES, "odd/templates/config.yaml": TEMPLATE}
DEFS = "https://example.org/defs.json"


def with_entries(*entries: tuple[str, bytes, bytes]) -> bytes:
    """Return the chart with further entries: name, type, and content or where a link leads."""
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        for name, kind, content in [(name, tarfile.REGTYPE, content) for name, content in FILES.items()] + [*entries]:
            entry = tarfile.TarInfo(name)
            entry.type = kind
            if kind == tarfile.REGTYPE:
                entry.size = len(content)
            else:
                entry.linkname = content.decode()
            archive.addfile(entry, io.BytesIO(content))
    return gzip.compress(raw.getvalue())


ODD = {
    "keys in other case": pack_archive(
        {
            **FILES,
            "odd/Chart.yaml": b"apiVersion: v2\nName: odd\nVersion: 0.1.0\nAppVersion: '7'\nkubeversion: '>=1.20'\n",
        }
    ),
    "a calendar version": pack_archive({**FILES, "odd/Chart.yaml": CHART.replace(b"0.1.0", b"2024.01.05")}),
    "backslashes": pack_archive({name.replace("/", "\\"): content for name, content in FILES.items()}),
    "a symbolic link": with_entries(("odd/templates/link.yaml", tarfile.SYMTYPE, b"config.yaml")),
    "a hard link": with_entries(("odd/files/link", tarfile.LNKTYPE, b"odd/values.yaml")),
    "a path twice": with_entries(
        ("odd/values.yaml", tarfile.REGTYPE, b"text: again\n"), ("odd/templates/config.yaml", tarfile.REGTYPE, TEMPLATE)
    ),
    "a second top folder": with_entries(
        ("other/templates/more.yaml", tarfile.REGTYPE, config_map_template("more").encode())
    ),
    "a bundled schema": build_chart(
        "odd",
        templates={"config.yaml": config_map_template()},
        values={"text": "hello"},
        schema=f'{{"properties": {{"text": {{"$ref": "{DEFS}#/definitions/text"}}}}, '
        f'"$defs": {{"d": {{"$id": "{DEFS}", "definitions": {{"text": {{"type": "string"}}}}}}}}}}',
    ),
    "a schema with an id": build_chart(
        "odd",
        templates={"config.yaml": config_map_template()},
        values={"text": "hello"},
        schema='{"$id": "https://example.org/values.schema.json", "properties": {"text": {"$ref": "#/definitions/s"}}, '
        '"definitions": {"s": {"type": "string"}}}',
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_it_is_installed_as_helm_would(
    server: RunningServer, namespace: str, helm_cli: HelmCommand, tmp_path: Path, name: str
):
    archive = tmp_path / "odd.tgz"
    archive.write_bytes(ODD[name])
    release = OneRelease(server, namespace, f"odd-{uuid.uuid4().hex[:8]}", helm_cli)
    uploaded = server.upload(ODD[name], parameters='{"skip_lint": true, "override": true}')
    assert uploaded.status_code == 201, uploaded.text

    assert release.create(uploaded.json()["id"]).status_code == 201

    assert release.settled()["status"] == "DEPLOYED"
    ours = helm_cli("get", "manifest", release.name, "-n", namespace)
    theirs = helm_cli("template", release.name, str(archive), "-n", namespace)
    assert [*yaml.safe_load_all(ours)] == [*yaml.safe_load_all(theirs)]
