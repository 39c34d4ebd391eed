"""Writes YAML that Go programs such as Helm read as the same values.

PyYAML and Go resolve plain scalars by different rules (``y``, ``1e3``, ``0o17``), so strings are quoted unless they are
plain words that no rule takes for anything else.
"""

import re
from typing import Any

import yaml

_Dumper: Any = yaml.CSafeDumper if yaml.__with_libyaml__ else yaml.SafeDumper
_PLAIN = re.compile(r"[A-Za-z_/][A-Za-z0-9_./-]*", re.ASCII)
_WORDS = frozenset({"y", "n", "yes", "no", "on", "off", "true", "false", "null"})


def dump_yaml(value: Any) -> str:
    """Return the value, which consists of JSON's types, as a YAML document in block style; keys keep their order."""
    text: str = yaml.dump(
        value, Dumper=_Quoting, sort_keys=False, default_flow_style=False, allow_unicode=True, width=2**31 - 1
    )
    return text


class _Quoting(_Dumper):  # type: ignore[misc]  # the base is one of two classes, which mypy takes for Any
    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002  # the signature of PyYAML
        return True


def _represent_text(dumper: Any, text: str) -> Any:
    style = None if _PLAIN.fullmatch(text) and text.lower() not in _WORDS else '"'
    if "\n" in text and not text.startswith((" ", "\n", "\t")):
        style = "|"  # PyYAML falls back to quotes where a block cannot hold the text
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Quoting.add_representer(str, _represent_text)
