"""No module outgrows 400 lines and no function 50, so that each has one subject.

Migrations may, which are written once and never change.
"""

import ast

from tests.support.source_code import ROOT, modules

MOST_LINES, MOST_FUNCTION_LINES = 400, 50


def test_no_module_is_too_long():
    lengths = {name: (ROOT / name).read_text().count("\n") for name in modules()}
    assert len(lengths) > 100
    assert {name: lines for name, lines in lengths.items() if lines > MOST_LINES} == {}


def test_no_function_is_too_long():
    lengths = {
        f"{name} {node.name}": (node.end_lineno or 0) - node.lineno + 1
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert len(lengths) > 1000
    assert {name: n for name, n in lengths.items() if n > MOST_FUNCTION_LINES} == {}
