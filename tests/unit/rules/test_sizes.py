"""No module outgrows 400 lines and no function 50, so that each has one subject.

Migrations may, which are written once and never change.
"""

import ast
from pathlib import Path

import pilothouse

ROOT = Path(pilothouse.__file__).parent
MOST_LINES, MOST_FUNCTION_LINES = 400, 50


def _modules() -> dict[str, str]:
    files = (file for file in ROOT.rglob("*.py") if "migrations" not in file.parts)
    return {file.relative_to(ROOT).as_posix(): file.read_text() for file in files}


def test_no_module_is_too_long():
    lengths = {name: text.count("\n") for name, text in _modules().items()}
    assert len(lengths) > 100
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_function_is_too_long():
    lengths = {
        f"{name} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for name, text in _modules().items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert len(lengths) > 1000
    assert {name: n for name, n in lengths.items() if n > MOST_FUNCTION_LINES} == {}
