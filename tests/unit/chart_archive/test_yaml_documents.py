"""values.yaml as Helm reads it: Helm's own loader, in a process of its own, is the judge."""

import atexit
import base64
import json
import os
import random
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.chart_archive.documents import go_text, read_document, read_values
from pilothouse.errors import InvalidChart
from tests.support.charts import build_chart
from tools.localcluster import toolchains
from tools.localcluster.programs import required_go
from tools.localcluster.progress import on_stderr

_ENGINE = Path(__file__).parents[3] / "engine"

_WORDS = (
    "y Y n N yes on off oN true TRUE tRUE ~ null Null nULL 1 -1 +1 0 -0 00 010 08 0o17 0O17 0b11 -0b11 0B1 0b2 0x1F "
    "-0X1f +0x1f 0x 0o 1_000 1__0 _1 1_ 1e3 1E+3 1e 1e+ 1.e3 1. . .5 -.5 +.5 .5e2 ._5 1.5_5 - + 1:30 12:30:45 "
    "2001-12-14 2001-12-14T21:59:43Z 1e400 -1e400 9007199254740993 12345678901234567890 18446744073709551615 "
    "18446744073709551616 -9223372036854775808 -9223372036854775809 +9223372036854775808 0xfffffffffffffffff "
    "07777777777777777777777 1.0 1e21 1e22 1e-7 0.000001 123456789.125 -0.0 0.1.2 v1 = ٣ ~~ .inf -.Inf .nan"
)
SCALARS = _WORDS.split()
TEXTS = (
    *(f"k: {scalar}\n" for scalar in SCALARS),
    *(f"? {scalar}\n: v\n" for scalar in SCALARS),
    *(f"k: !!{tag}\n" for tag in ("str 12", 'int "12"', "int a", "float 1", "bool y", 'null ""', "null x", "map {}")),
    *(
        *(
            f"k: !!binary {text}\n"
            for text in ("aGk=", "aG k=", '"aGk="', "a-k=", "/w==", "|\n aGVs\n bG8=", "x", '""')
        ),
        'k: "12"\n',
        "k: '~'\n",
        "k: ! 12\n",
        'k: "\\0\\x41\\u00e9"\n',
        "k: |\n  1\n",
        "k: >-\n  1\n  2\n",
        "k: é\u2028\n",
    ),
    *("", "# only a comment\n", "---\n", "---\n---\na: 1\n", "~\n", "- a\n", "a\n", "\ufeffa: 1\n", "a: 1\r\nb: 2\r\n"),
    *("a: 1\na: 2\n", "a: {x: 1}\na: {y: 1}\n", "1: a\n1.5: b\n1e6: c\n1234567.5: d\n1e40: e\n1e-50: f\n"),
    *("a: 1\n---\na: {b: 2}\n---\nc: 3", "a: {x: 1}\n--- # k\na: {y: 2}\n", "a: {b: 1}\n---\na: ~\n"),
    *("--- a: 1\n", "a: 1\n--- x\n", "a: 1\n...\nb: 2\n", "a: 1\n---", "%YAML 1.1\n---\na: 1\n"),
    *("a: 1\n<<: {a: 2, b: 3}\n", "<<: {a: 2}\na: 1\n", "<<: [{a: 1}, {a: 2, b: 2}]\n", "<<: 1\n", '"<<": {a: 1}\n'),
    *(
        "x: &x {a: 1}\ny: {<<: *x, b: 2}\n",
        "x: &x {a: *x}\n",
        "a: *b\n",
        "a: &a 1\nb: &a {c: *a}\n",
        "a: &a 5\n*a : 3\n",
    ),
    *("? [1]\n: 2\n", "? {a: 1}\n: 2\n", "~: 1\n", "true: 1\n", "a: [1,2\n", "a: b: c\n", "a: @x\n", "a:\n\tb: 1\n"),
    *("{a: 1, b: [1, 2, {c: d}]}", '{"a":1}', "a: \x01\n", "a: 'it''s'\n", "- 1\na: 2\n", "a: &x\nb: *x\n"),
)


def judge(texts: tuple[str, ...] | list[str]) -> list[Any]:
    """Return what Helm reads from each text; None where it refuses."""
    lines = "".join(_encoded(text) + "\n" for text in texts)
    program = subprocess.run([_values_judge()], input=lines, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in program.stdout.splitlines()]


@cache
def _values_judge() -> Path:
    """Helm's own loader in a program of its own, built once from the engine's module."""
    folder = Path(tempfile.mkdtemp(prefix="pilothouse-judge-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    go = toolchains.find(at_least=required_go(_ENGINE), progress=on_stderr())
    subprocess.run(
        [go.command, "build", "-trimpath", "-o", folder / "values", "./judges/values"],
        cwd=_ENGINE,
        env=toolchains.environment(os.environ),
        check=True,
    )
    return folder / "values"


def _encoded(text: str) -> str:
    return base64.b64encode(build_chart(values=text)).decode()


def ours(text: str) -> dict[str, Any] | None:
    try:
        return read_values(text.encode(), file="values.yaml", max_bytes=1_000_000)
    except InvalidChart:
        return None


def same_json(one: Any, other: Any) -> bool:
    """Whether two values are the same JSON; numbers are, if they are the same 64-bit float."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same_json(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(same_json, one, other))
    if isinstance(one, bool) or isinstance(other, bool):
        return one is other
    if isinstance(one, int | float) and isinstance(other, int | float):
        return float(one) == float(other)
    return bool(one == other)


def disagreements(texts: tuple[str, ...] | list[str]) -> list[tuple[str, Any, Any]]:
    read = [(text, ours(text), helm) for text, helm in zip(texts, judge(texts), strict=True)]
    return [case for case in read if not same_json(case[1], case[2])]


def test_values_are_what_helm_reads():
    assert disagreements(TEXTS) == []


def test_random_scalars_and_structures_are_what_helm_reads():
    chance = random.Random(20260101)  # noqa: S311 - reproducible, no secret
    letters = "0123456789_+-.eExXobBOnNyaf:"
    parts = [
        *("a", "b: ", "- ", "\n", "\n  ", "\n    ", "[", "]", "{", "}", ",", ": ", "? ", "'", '"', "|\n", ">\n", "&x "),
        *("*x", "!!str ", "<<: ", "1", "0", "e", "_", ".", "-", "~", "#", " ", "on", "---\n", "...\n", "é", "\\", "\t"),
    ]
    scalars = ["k: " + "".join(chance.choices(letters, k=chance.randint(1, 7))) for _ in range(1500)]
    structures = ["".join(chance.choices(parts, k=chance.randint(1, 12))) for _ in range(1500)]
    assert disagreements(scalars + structures) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: !local 1\n", "line 1: the tag '!local' is not accepted"),
        ("a: 1\nb: !!binary a-k=\n", "line 2: !!binary value contains invalid base64 data"),
        ("a: !!python/object/apply:os.system [x]\n", "python"),
        ("a: 1\n---\n- b\n", "line 3: must be a mapping"),
        ("a: [1\nb: 2\n", "line 2: "),
        ("a: 1\n---\nb: [1\n", r"values\.yaml: line 5: "),
        ("a: .inf\n", "line 1: JSON has no infinity"),
        ("a: &a [*a]\n", "holds itself"),
        ("%TAG ! x\n---\na: 1\n", "%TAG"),
        ("a: \ud7ff\x00", "characters that YAML does not allow"),
        ("a: " + "[" * 200, "nested more than 100 deep"),
        ("a: {" + "b: {" * 200, "nested more than 100 deep"),
        ("a: [" + "1," * 110_000 + "]", "more than 100000 values"),
        ("a: " + "x" * 1_100_000, "more than 1000000 bytes"),
    ],
)
def test_a_refusal_names_the_line_and_the_reason(text: str, said: str):
    with pytest.raises(InvalidChart, match=said):
        read_values(text.encode(), file="values.yaml", max_bytes=1_000_000)


def test_text_that_is_not_utf8_is_refused():
    with pytest.raises(InvalidChart, match="not UTF-8 text \\(byte 3\\)"):
        read_values(b"a: \xff", file="values.yaml", max_bytes=100)


def test_numbers_of_a_document_stay_as_written_and_print_as_helm_prints_them():
    document = read_document(b"[1.10, 20260101123456789, yes, 1e6, 0.00001]", file="Chart.yaml", max_bytes=1000)
    assert [go_text(value) for value in document] == ["1.1", "20260101123456789", "true", "1e+06", "1e-05"]
    assert go_text(1e300) == ".inf"
    assert go_text(-1e300) == "-.inf"
    assert go_text(float("nan")) == ".nan"
    assert go_text(0.0) == "0"


@settings(max_examples=300)
@given(st.text(max_size=200))
def test_any_text_is_refused_or_read(text: str):
    values = ours(text.encode("utf-8", "replace").decode("utf-8"))
    assert values is None or json.dumps(values)


_text = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), max_size=20)
_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | _text,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4),
    max_leaves=20,
)


@given(st.dictionaries(_text, _json, max_size=5))
def test_json_is_read_as_it_is(values: dict[str, Any]):
    assert read_values(json.dumps(values, ensure_ascii=False).encode(), file="values.yaml", max_bytes=100_000) == values
