"""Values that a schema refuses, with the layer and line that they are from; errors as Helm's validator writes them."""

import pytest

from pilothouse.engine.protocol import ValuesLayer
from pilothouse.services.releases.layer_lines import locate_in_layers

FIRST = "# of the team\nreplicas: 2\nimage:\n  tag: one\nports: [80, http]\nsub:\n  size: 1\n"
SECOND = "image:\n  tag: two\n---\nreplicas: many\nimage:\n  pull: no\n"
LAYERS = (
    ValuesLayer("yaml", FIRST, "values[0] (a.yaml)"),
    ValuesLayer("yaml", SECOND, "values[1] (b.yaml)"),
    ValuesLayer("object", '{"mode": {"name": "x"}}', "values[2]"),
    ValuesLayer("set", r"list={1,2},a\.b=1,deep[0].key=2", "values[3] (--set)"),
    ValuesLayer("set_json", 'other={"key": 1}', "values[4]"),
)


def located(*lines: str, layers: tuple[ValuesLayer, ...] = LAYERS) -> list[str]:
    text = "\n".join(["values don't meet the specifications of the schema(s) in the following chart(s):", *lines])
    return locate_in_layers(text, layers).split("\n")[1:]


@pytest.mark.parametrize(
    ("error", "where"),
    [
        ("- at '/replicas': got string, want integer", "values[1] (b.yaml), line 4"),
        ("- at '/ports/1': got string, want integer", "values[0] (a.yaml), line 5"),
        ("- at '/image/tag': value must be one of 'x', 'y'", "values[1] (b.yaml), line 2"),
        ("- at '/image': additional properties 'pull' not allowed", "values[1] (b.yaml), line 6"),
        ("- at '/image': got object, want string", "values[0] (a.yaml), line 4 and values[1] (b.yaml), line 6"),
        (
            "- at '': properties 'ports' required, if 'replicas' exists",
            "values[0] (a.yaml), line 5 and values[1] (b.yaml), line 4",
        ),
        ("- at '/mode/name': got string, want integer", "values[2]"),
        ("- at '/list': got array, want string", "values[3] (--set)"),
        ("- at '/a.b': got integer, want string", "values[3] (--set)"),
        ("- at '/deep/0/key': got integer, want string", "values[3] (--set)"),
        ("- at '/other': got object, want string", "values[4]"),
    ],
)
def test_a_refused_value_has_its_layer_and_line(error: str, where: str):
    assert located("web:", error) == ["web:", f"{error} (set by {where})"]


@pytest.mark.parametrize(
    "error", ["- at '': missing property 'nowhere'", "- at '/chart/default': got string, want integer", "other words"]
)
def test_what_no_layer_set_stays_as_it_is(error: str):
    layers = tuple(one for one in LAYERS if one.kind == "object") if "missing" not in error else ()
    assert located("web:", error, layers=layers) == ["web:", error]


def test_a_missing_property_names_the_layers_that_could_have_it():
    (_, line) = located("web:", "- at '/image': missing property 'name'")
    assert line.endswith(" (set by values[0] (a.yaml), line 4 and values[1] (b.yaml), line 6)")


def test_a_subcharts_values_are_below_its_name():
    lines = located("web:", "- at '/replicas': got string, want integer", "sub:", "- at '/size': got x, want y")
    assert lines[1].endswith("(set by values[1] (b.yaml), line 4)")
    assert lines[3].endswith("(set by values[0] (a.yaml), line 7)")


def test_a_subchart_can_be_the_only_one_with_errors():
    (_, line) = located("sub:", "- at '/size': got x, want y")
    assert line.endswith("(set by values[0] (a.yaml), line 7)")


def test_nested_causes_are_located_too_and_only_so_many():
    error = "  - at '/replicas': got string, want integer"
    found = located("web:", *[error] * 30)
    assert [line.endswith("line 4)") for line in found[1:]] == [True] * 20 + [False] * 10


@pytest.mark.parametrize("text", ["a: [", "*x", "[" * 5000, "- 1", "", "&a [*a]", f"a: {'[' * 200_000}{']' * 200_000}"])
def test_layers_that_cannot_be_read_break_nothing(text: str):
    for kind in ("yaml", "object", "set", "set_json"):
        layers = (ValuesLayer(kind, text, "values[0]"), LAYERS[0])
        (_, line) = located("web:", "- at '/sub/size': got integer, want string", layers=layers)
        assert line.endswith("(set by values[0] (a.yaml), line 7)")
