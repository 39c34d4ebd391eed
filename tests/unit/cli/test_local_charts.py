"""Tests for what a command reads beside a chart on this machine."""

from pathlib import Path

import pytest

from pilothouse.cli.local_charts import provenance_of


@pytest.mark.parametrize("folder", [".", "..", "/", "chart"])
def test_a_folder_has_no_provenance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str):
    (tmp_path / "chart").mkdir()
    monkeypatch.chdir(tmp_path)

    assert provenance_of(Path(folder)) == ""


def test_an_archive_has_that_of_the_file_beside_it(tmp_path: Path):
    archive = tmp_path / "web-1.0.0.tgz"
    archive.write_bytes(b"archive")
    assert provenance_of(archive) == ""
    archive.with_name("web-1.0.0.tgz.prov").write_text("signed")

    assert provenance_of(archive) == "signed"
