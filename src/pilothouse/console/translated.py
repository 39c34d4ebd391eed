"""Templates that are compiled in one language: a text costs a page no more than if it stood there without a mark."""

import re
from typing import Any, Final

from jinja2 import Environment, nodes
from jinja2.visitor import NodeTransformer

from pilothouse.console.texts import Language, speaking, translate, translate_number

#: Those that take one text.
_MARKS: Final = {"_", "gettext"}
_VARIABLE: Final = re.compile(r"%\((\w+)\)s|%(%)")


class TranslatedEnvironment(Environment):
    """An environment for one language, with Jinja's own marks of texts, which escape the variables."""

    def __init__(self, language: Language, **options: Any) -> None:
        super().__init__(extensions=["jinja2.ext.i18n"], **options)
        # for marks that are no constant, and numbers; the method is what the extension adds
        self.install_gettext_callables(translate, translate_number, newstyle=True)  # type: ignore[attr-defined]  # as said
        self.language = language

    def compile(  # type: ignore[override]  # Jinja's own says by overloads what ``raw`` gives
        self, source: str | nodes.Template, name: str | None = None, filename: str | None = None, **options: Any
    ) -> Any:
        """Return the code of a template in which the texts are those of the language."""
        tree = self.parse(source, name, filename) if isinstance(source, str) else source
        with speaking(self.language):
            return super().compile(_Translator().visit(tree), name, filename, **options)


class _Translator(NodeTransformer):
    """Puts the text of the language in the place of each mark, and its variables into it."""

    def visit_Output(self, node: nodes.Output) -> nodes.Output:  # noqa: N802 (named after the node)
        self.generic_visit(node)
        node.nodes = [part for one in node.nodes for part in (one.nodes if isinstance(one, nodes.Concat) else [one])]
        return node

    def visit_Call(self, node: nodes.Call) -> nodes.Expr:  # noqa: N802 (named after the node)
        self.generic_visit(node)
        is_mark = isinstance(node.node, nodes.Name) and node.node.name in _MARKS and len(node.args) == 1
        if not is_mark or not isinstance(node.args[0], nodes.Const):
            return node
        variables = {keyword.key: keyword.value for keyword in node.kwargs}
        parts: list[nodes.Expr] = []
        at, text = 0, translate(node.args[0].value)
        for found in _VARIABLE.finditer(text):
            parts.append(nodes.TemplateData(text[at : found.start()], lineno=node.lineno))
            parts.append(variables[found[1]] if found[1] else nodes.TemplateData("%", lineno=node.lineno))
            at = found.end()
        parts.append(nodes.TemplateData(text[at:], lineno=node.lineno))
        return nodes.Concat(parts, lineno=node.lineno) if len(parts) > 1 else parts[0]
