"""The committed bundle of the YAML editor is what its source and its pinned packages make."""

import json

import pytest

from tools.editor_bundle import BUNDLE, HERE, LICENCES, BundleFailed, build


def test_a_new_build_is_the_committed_bundle():
    try:
        built = build()
    except BundleFailed as error:
        pytest.skip(f"it cannot be built here: {error}")
    for file, content in built.items():
        assert file.read_bytes() == content, f"{file.name}: run python -m tools.editor_bundle"


def test_every_package_of_the_bundle_is_pinned_and_its_licence_is_there():
    packages = json.loads((HERE / "package-lock.json").read_text())["packages"]
    used = {name.removeprefix("node_modules/") for name in packages if name and "esbuild" not in name}
    assert used == {line[3:] for line in LICENCES.read_text().splitlines() if line.startswith("## ")}
    assert all(one["license"] in {"MIT", "ISC"} and one["integrity"] for name, one in packages.items() if name)
    assert "eval(" not in BUNDLE.read_text(), "the page's policy forbids it"
