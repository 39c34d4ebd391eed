"""Every text of a template is marked for translation: what reaches the page otherwise is markup or data."""

import ast
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from jinja2 import nodes

from pilothouse import errors
from pilothouse.console.rendering import environment

CONSOLE = Path(__file__).parents[3] / "src" / "pilothouse" / "console"
#: Names, which no language changes.
NAMES = {"Pilothouse", "PGP", "Flux", "Argo CD"}
_NAME = re.compile("|".join(map(re.escape, sorted(NAMES))))
#: What pages raise, and ``wrong``, which makes one.
ERRORS = {"wrong", *(name for name, value in vars(errors).items() if isinstance(value, type))}
MARKS = {"_", "gettext", "ngettext", "pgettext", "npgettext"}
READ_ATTRIBUTES = {
    *("alt", "aria-description", "aria-label", "aria-roledescription", "data-label", "label", "placeholder", "title"),
}
#: What stands in these is typed or called so in every language.
LITERAL = {"code", "kbd"}
#: What a macro gives that is put into a tag.
_ATTRIBUTE = re.compile(r'\b[a-z-]+="[^"]*"')
#: Of constants that are no direct part of the page: codes and class names have no capitals or blanks between words.
_LIKE_A_TEXT = re.compile(r"^[A-Z][a-z]|[a-z.,;:] [A-Za-z]")
_LETTER = re.compile(r"[^\W\d_]")


class Page(HTMLParser):
    """Collects what a person would read."""

    def __init__(self) -> None:
        super().__init__()
        self.read: list[str] = []
        self._open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._open.append(tag)
        self.read += [value for name, value in attrs if name in READ_ATTRIBUTES and value]

    def handle_endtag(self, tag: str) -> None:
        while tag in self._open and self._open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if not LITERAL & set(self._open[-1:]):
            self.read += [_ATTRIBUTE.sub("", line).strip() for line in data.splitlines()]


class Template:
    """A template without its data: all branches one after the other, and of expressions only what they say."""

    def __init__(self, source: str) -> None:
        self._tree = environment().parse(source)
        self._shown: set[int] = set()

    def unmarked(self) -> list[str]:
        page = Page()
        page.feed(self._text_of(self._tree))
        page.close()
        given = [one.value for one in self._constants(self._tree) if _LIKE_A_TEXT.search(one.value)]
        return [text for text in (*page.read, *given) if _LETTER.search(_NAME.sub("", text))]

    def _text_of(self, node: nodes.Node) -> str:
        if isinstance(node, nodes.TemplateData):
            return node.data
        if isinstance(node, nodes.Expr):
            return self._said_by(node)
        children = node.iter_child_nodes(exclude=("test", "iter", "target", "args", "defaults", "template"))
        if isinstance(node, nodes.Assign | nodes.Import | nodes.FromImport | nodes.Include | nodes.Extends):
            return ""
        return "".join(self._text_of(child) for child in children)

    def _said_by(self, node: nodes.Expr) -> str:
        """Return the constants that the expression can come to."""
        if isinstance(node, nodes.Const):
            self._shown.add(id(node))
            return node.value if isinstance(node.value, str) else ""
        if isinstance(node, nodes.CondExpr):
            return " ".join(self._said_by(one) for one in (node.expr1, node.expr2) if one is not None)
        if isinstance(node, nodes.And | nodes.Or | nodes.Add):
            return " ".join((self._said_by(node.left), self._said_by(node.right)))
        if isinstance(node, nodes.Concat):
            return "".join(self._said_by(one) for one in node.nodes)
        if isinstance(node, nodes.Filter) and node.node is not None:
            return self._said_by(node.node)
        return ""

    def _constants(self, node: nodes.Node) -> Iterator[nodes.Const]:
        """Yield the texts that are given on: to macros, to variables."""
        if isinstance(node, nodes.Call) and isinstance(node.node, nodes.Name) and node.node.name in MARKS:
            for keyword in node.kwargs:
                yield from self._constants(keyword)
        elif isinstance(node, nodes.Const):
            if isinstance(node.value, str) and id(node) not in self._shown:
                yield node
        elif isinstance(node, nodes.Filter) and node.name in LITERAL:
            return
        elif isinstance(node, nodes.Filter):
            yield from self._constants(node.node) if node.node is not None else ()
        elif not isinstance(node, nodes.Compare | nodes.Test):
            for child in node.iter_child_nodes(exclude=("test",)):
                yield from self._constants(child)


@pytest.mark.parametrize("name", environment().list_templates())
def test_a_template_has_no_text_that_is_not_marked(name: str):
    assert Template((CONSOLE / "templates" / name).read_text()).unmarked() == []


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("<p>Hello</p>", ["Hello"]),
        ('<p>{{ _("Hello") }}</p>', []),
        ("<p>{% trans %}Hello{% endtrans %}</p>", []),
        ('<p class="a" title="Some text">{{ x }}</p>', ["Some text"]),
        ('<p title="{{ _("Some text") }}">{{ x }}</p>', []),
        ('<p>{{ "on" if x else "off" }}</p>', ["on off"]),
        ('<p class="tag{{ " bad" if x == "y" }}">{{ x or "none" }}</p>', ["none"]),
        ('{% if a %}<p>{% else %}<p class="b">{% endif %}{{ n }} more</p>', ["more"]),
        ("{% for x in y %}{{ x }}{% else %}Nothing.{% endfor %}", ["Nothing."]),
        ('{{ parts.problem(text, "Not done") }}', ["Not done"]),
        ('{{ parts.problem(text, _("Not done")) }}', []),
        ('{% set title = "Roll back" %}', ["Roll back"]),
        ('{% macro m(word="Delete") %}{{ word }}{% endmacro %}', ["Delete"]),
        ('{{ _("by %(name)s", name=x or "a user who is gone") }}', ["a user who is gone"]),
        ("<b>Pilothouse</b>", []),
    ],
)  # fmt: skip
def test_texts_are_found_where_they_can_stand(source: str, found: list[str]):
    assert Template(source).unmarked() == found


def errors_with_texts(source: str) -> list[str]:
    """Return the errors whose text, beyond a field's name in front, is not marked."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ERRORS and node.args:
            parts = node.args[0].values if isinstance(node.args[0], ast.JoinedStr) else [node.args[0]]
            said = [one.value for one in parts if isinstance(one, ast.Constant) and isinstance(one.value, str)]
            if any(" " in one.strip() for one in said):
                found.append(ast.unparse(node))
    return found


@pytest.mark.parametrize("file", sorted(CONSOLE.glob("*.py")), ids=lambda file: file.name)
def test_an_error_that_a_page_raises_is_marked(file: Path):
    assert errors_with_texts(file.read_text()) == []


def test_an_error_with_a_text_of_its_own_is_found():
    assert errors_with_texts('raise InvalidRequest(f"do: choose {one}")')
    assert not errors_with_texts("raise InvalidRequest(f'do: {gettext(\"choose one\")}')")
