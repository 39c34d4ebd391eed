"""Docstrings begin as CONTRIBUTING.md says; ruff's D401 knows neither properties nor nouns that look like verbs."""

import ast
import functools
import re

from tests.support.source_code import modules

Function = ast.FunctionDef | ast.AsyncFunctionDef
#: Words that no imperative sentence begins with.
_NO_VERB = re.compile(
    r"(The|A|An|Whether|Whose|What|Why|How|When|Where|Who|Which|Once|If|Without|With|For|In|On|Of|All|Any|Each|It|Its"
    r"|Nothing|Number|Maximum|Remaining|True|False|None|Only)\b"
)
_OF_PROPERTY = re.compile(r"(The|True if|False if|Return)\b")


@functools.cache
def documented() -> list[tuple[str, Function, str]]:
    """Return place, function and docstring of each function that has one."""
    return [
        (f"{name}:{node.lineno} {node.name}: {text.splitlines()[0]}", node, text)
        for name, tree in modules().items()
        for node in ast.walk(tree)
        if isinstance(node, Function) and (text := ast.get_docstring(node))
    ]


def is_property(function: Function) -> bool:
    return any(ast.unparse(one).endswith("property") for one in function.decorator_list)


def test_functions_say_first_what_they_do():
    found = [place for place, node, text in documented() if not is_property(node) and _NO_VERB.match(text)]
    assert found == []


def test_properties_say_first_what_they_are():
    properties = [(place, text) for place, node, text in documented() if is_property(node)]
    assert [place for place, text in properties if not _OF_PROPERTY.match(text)] == []
    assert len(properties) > 50
