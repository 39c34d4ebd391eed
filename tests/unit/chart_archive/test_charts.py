"""Chart.yaml and what else a chart says of itself."""

import json
from typing import Any

import pytest

from pilothouse.chart_archive.charts import ChartArchive, inspect_chart, read_config
from pilothouse.errors import InvalidChart
from pilothouse.settings import ChartLimits
from tests.support.charts import build_chart, pack_archive, web_chart

LIMITS = ChartLimits()


def inspect(archive: bytes) -> ChartArchive:
    return inspect_chart(archive, limits=LIMITS)


def with_chart_yaml(text: str, **files: str) -> bytes:
    entries = {f"demo/{name.replace('_', '.')}": content.encode() for name, content in files.items()}
    return pack_archive({"demo/Chart.yaml": text.encode(), **entries})


def test_everything_that_is_said_is_reported():
    chart = inspect(
        build_chart(
            "demo",
            "1.2.3-rc.1+build.5",
            app_version="6.0",
            chart_type="library",
            metadata={"description": "a\tdemo\n", "icon": "https://example.test/icon.svg", "unknown": [1]},
            files={"docs/README.md": "", "Readme.txt": ""},
        )
    )
    assert chart.version == "1.2.3-rc.1+build.5"
    assert (chart.app_version, chart.type, chart.api_version) == ("6.0", "library", "v2")
    assert (chart.description, chart.icon_url) == ("a demo ", "https://example.test/icon.svg")
    assert (chart.readme_name, chart.values) == ("Readme.txt", {})


def test_a_chart_of_usual_size_is_an_application():
    chart = inspect(web_chart())
    assert (chart.type, chart.readme_name, chart.values["imageTag"]) == ("application", "", "1.0.0")


@pytest.mark.parametrize(
    "version", ["1.2.3", "0.0.0", "v1.14.4", "1.2", "3", "1.0.0-0.a-b.7", "1.0.0+001", "100.0.0", "2024.01.05", "01.2"]
)
def test_versions_that_helm_reads_are_accepted(version: str):
    assert inspect(build_chart(version=version)).version == version


@pytest.mark.parametrize(("written", "read"), [("1.10", "1.1"), ("3", "3"), ("1.5", "1.5")])
def test_a_version_that_is_a_number_in_yaml_is_the_text_that_helm_makes_of_it(written: str, read: str):
    assert inspect(with_chart_yaml(f"apiVersion: v1\nname: demo\nversion: {written}\n")).version == read


@pytest.mark.parametrize(
    ("metadata", "said"),
    [
        ({"name": None}, "name is missing"),
        ({"name": ""}, "name is missing"),
        ({"name": "a" * 65}, "at most 64"),
        ({"name": "a/b"}, "name 'a/b' must be"),
        ({"name": "-a"}, "name '-a' must be"),
        ({"name": ".."}, "must be"),
        ({"name": "a b"}, "must be"),
        ({"name": "a\0b"}, "must be"),
        ({"name": "демо"}, "must be"),
        ({"name": ["a"]}, "name must be text"),
        ({"name": {"a": 1}}, "name must be text"),
        ({"version": None}, "version is missing"),
        ({"version": "latest"}, "semantic version"),
        ({"version": "1.2.3.4"}, "semantic version"),
        ({"version": "99999999999999999999.0.0"}, "semantic version"),
        ({"version": "1.2.3-01"}, "semantic version"),
        ({"version": "1.2.3\n"}, "semantic version"),
        ({"version": "1.2.3-" + "a" * 60}, "at most 64"),
        ({"apiVersion": None}, "apiVersion is missing"),
        ({"apiVersion": "v3"}, "v1 or v2"),
        ({"type": "plugin"}, "application or library"),
        ({"name": None, "Name": "a/b"}, "name 'a/b' must be"),
    ],
)
def test_a_refusal_names_the_field(metadata: dict[str, Any], said: str):
    with pytest.raises(InvalidChart, match=rf"^Chart\.yaml: .*{said}"):
        inspect(build_chart(metadata=metadata))


@pytest.mark.parametrize("text", ["", "- a\n", "just text\n", "a: [\n", "a: *b\n", "\x00"])
def test_a_chart_yaml_that_is_no_mapping_is_refused(text: str):
    with pytest.raises(InvalidChart, match=r"^Chart\.yaml: "):
        inspect(with_chart_yaml(text))


def test_keys_of_any_case_are_read_as_helm_reads_them():
    text = "apiVersion: v2\nName: demo\nVER\u017fION: 1.0.0\nAppVersion: '2'\ndescription: low\nDescription: high\n"
    chart = inspect(with_chart_yaml(text + "type: null\nType: library\n"))

    assert (chart.name, chart.version, chart.app_version) == ("demo", "1.0.0", "2")
    assert chart.description == "low"  # capitals come first in the order of bytes, and the last one counts
    assert chart.type == "library"


def test_requirements_lie_over_the_chart_as_helm_lays_them():
    chart_yaml = "apiVersion: v1\nname: demo\nversion: 1.0.0\n"
    for text in ("dependencies: []\n", "# none\n", "name: null\n"):
        assert inspect(with_chart_yaml(chart_yaml, requirements_yaml=text)).name == "demo"
    renamed = inspect(with_chart_yaml(chart_yaml, requirements_yaml="name: other\nVersion: 9.9.9\n"))
    assert (renamed.name, renamed.version) == ("other", "9.9.9")
    with pytest.raises(InvalidChart, match=r"^requirements\.yaml: "):
        inspect(with_chart_yaml(chart_yaml, requirements_yaml="- a\n"))


def test_values_are_limited_as_json():
    limits = LIMITS.model_copy(update={"values_bytes": 100})
    assert inspect_chart(build_chart(values="# " + "x" * 500 + "\na: 1\n"), limits=limits).values == {"a": 1}
    with pytest.raises(InvalidChart, match=r"^values\.yaml: .*100"):
        inspect_chart(build_chart(values={"a": "x" * 200}), limits=limits)
    with pytest.raises(InvalidChart, match=r"^values\.yaml: .* bytes as JSON"):
        inspect_chart(build_chart(values={"a": '"' * 80}), limits=limits)


@pytest.mark.parametrize("values", ["- a\n", "text\n", "1\n"])
def test_values_must_be_a_mapping(values: str):
    with pytest.raises(InvalidChart, match=r"^values\.yaml: line 1: must be a mapping"):
        inspect(build_chart(values=values))


def test_the_metadata_for_registries_has_what_helm_has_and_leaves_out_what_fits_no_field():
    text = """\
{apiVersion: v2, Name: demo, version: 1.0.0, appVersion: 1.10, icon: null, description: [x], deprecated: yes,
keywords: [a, {}, 2], maintainers: [{name: one, age: 3}, 7], annotations: {b: 1, a: null}, kubeVersion: '',
dependencies: [{name: sub, import-values: [{child: a, parent: b}], tags: x}]}"""
    assert json.loads(read_config(with_chart_yaml(text), limits=LIMITS)) == {
        "name": "demo",
        "version": "1.0.0",
        "keywords": ["a", "2"],
        "maintainers": [{"name": "one"}],
        "apiVersion": "v2",
        "appVersion": "1.1",
        "deprecated": True,
        "annotations": {"a": "", "b": "1"},
        "dependencies": [{"name": "sub", "repository": "", "import-values": [{"child": "a", "parent": "b"}]}],
    }
