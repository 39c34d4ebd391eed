"""Helm's words about values, at the lines of the text that was typed."""

import time

import pytest

from pilothouse.console.value_problems import ValueProblem, locate_problems

TEXT = """\
# a comment
replicas: "x"
web:
  ports:
    - name: a
      port: b
    - {name: q, port: "1"}
  image: {tag: 3}
? [a, b]
: c
after: &anchor {x: 1}
again: *anchor
database:
  age: -5
"a/b": {"~": 1}
"""
SAID = "dry run: values don't meet the specifications of the schema(s) in the following chart(s):\n{}"


def told(lines: str, text: str = TEXT) -> list[tuple[int, int, str]]:
    return [(one.line, one.column, one.text) for one in locate_problems(SAID.format(lines), text, chart_name="demo")]


def test_each_value_is_found_at_its_key_or_item():
    assert told(
        "demo:\n- at '/replicas': got string, want integer (set by kept and values, line 2)\n"
        "- at '/web/ports/1/port': got string, want number\n"
        "- at '/web/image/tag': got number, want string\n- at '/again': got object, want string\n"
        "- at '/a~1b/~0': too small\n- at '/web/ports/0': wrong"
    ) == [
        (2, 1, "replicas: got string, want integer"),
        (5, 7, "web.ports.0: wrong"),
        (7, 17, "web.ports.1.port: got string, want number"),
        (8, 11, "web.image.tag: got number, want string"),
        (12, 1, "again: got object, want string"),
        (15, 9, "a/b.~: too small"),
    ]


def test_what_is_missing_is_told_where_it_would_be():
    assert told("demo:\n- at '': missing property 'name'\n- at '/web/missing/deep': got null, want string") == [
        (1, 1, "missing property 'name'"),
        (3, 1, "web.missing.deep: got null, want string"),
    ]


def test_values_of_a_subchart_are_below_its_name():
    assert told("demo:\n- at '/replicas': wrong\ndatabase:\n- at '/age': minimum: got -5, want 0") == [
        (2, 1, "replicas: wrong"),
        (14, 3, "database.age: minimum: got -5, want 0"),
    ]


def test_an_error_of_syntax_has_its_line_already():
    said = "values, line 3, column 7: yaml: mapping values are not allowed in this context"
    expected = ValueProblem(3, 7, "not valid YAML: mapping values are not allowed in this context")
    assert locate_problems(said, "", chart_name="demo") == [expected]
    several = f"namespace: 'A B' is none\n{said}"
    assert locate_problems(several, "", chart_name="demo") == [expected]


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (
            (
                "cannot unmarshal yaml document: error converting YAML to JSON: yaml: did not find expected ',' or "
                "']'; what is opened in line 2 is not closed"
            ),
            "not valid YAML: did not find expected ',' or ']'; what is opened in line 2 is not closed",
        ),
        (
            (
                "cannot unmarshal yaml document: error unmarshaling JSON: while decoding JSON: json: cannot unmarshal "
                "array into Go value of type map[string]interface {}"
            ),
            "it is a list, and values are names with what each is, as “replicas: 2”",
        ),
        ("too deep", "too deep"),
    ],
)
def test_the_words_of_parsers_are_left_out(said: str, told: str):
    expected = ValueProblem(3, 1, told)
    assert locate_problems(f"values, line 3, column 1: {said}", "", chart_name="demo") == [expected]


@pytest.mark.parametrize("said", ["release 'x' exists", "dry run: execution error at (demo/templates/a.yaml:1:3): no"])
def test_other_errors_are_about_no_line(said: str):
    assert locate_problems(said, TEXT, chart_name="demo") == []


@pytest.mark.parametrize("text", ["[" * 400_000, "a: &a [x]\n" + "b: *a\n" * 50_000, "\t", "- " * 100_000, ""])
def test_no_text_is_expensive_or_fatal(text: str):
    begun = time.process_time()
    assert told("demo:\n- at '/b': wrong", text)[0][2] == "b: wrong"
    assert time.process_time() - begun < 20
