"""Parsing of most options without pydantic, through which typer reads all of them and which takes 60 ms to load.

It stands on typer's internals, which the exact version in pyproject.toml keeps still; tests/process/test_cli_start.py
fails if a command loads pydantic again.
"""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import typer
from typer._coercion import RuntimeParam


@dataclass(frozen=True)
class _Text(RuntimeParam):
    def _coerce_value(self, value: Any, param: Any, ctx: Any) -> Any:  # noqa: ARG002 (typer's signature)
        return value


@dataclass(frozen=True)
class _Flag(RuntimeParam):
    def _coerce_value(self, value: Any, param: Any, ctx: Any) -> Any:  # noqa: ARG002 (typer's signature)
        return bool(value)


@dataclass(frozen=True)
class _Number(RuntimeParam):
    def _coerce_value(self, value: Any, param: Any, ctx: Any) -> Any:
        least, most = self.parameter_info.min, self.parameter_info.max
        try:
            number = int(value)
        except ValueError:
            raise typer.BadParameter(f"'{value}' is not a whole number.", ctx=ctx, param=param) from None
        if (least is not None and number < least) or (most is not None and number > most):
            ends = [
                f"at least {least:.0f}" if least is not None else "",
                f"at most {most:.0f}" if most is not None else "",
            ]
            allowed = " and ".join(filter(None, ends))
            raise typer.BadParameter(f"{number} must be {allowed}.", ctx=ctx, param=param)
        return number


@dataclass(frozen=True)
class _Choice(RuntimeParam):
    def _coerce_value(self, value: Any, param: Any, ctx: Any) -> Any:
        try:
            return self.annotation(value)
        except ValueError:
            known = ", ".join(f"'{member.value}'" for member in self.annotation)
            raise typer.BadParameter(f"'{value}' is not one of {known}.", ctx=ctx, param=param) from None


def _metavar(kind: Any) -> str | None:
    """Return how the help calls the value of an option that says nothing; None for what lists its words."""
    if isinstance(kind, type) and issubclass(kind, Path):
        return "FILE"
    return "N" if kind is int else "TEXT" if kind in {str, list[str]} else None


def use_plain_parsing(params: list[Any]) -> None:
    """Make those parameters that are texts, numbers, flags or choices parse themselves."""
    for param in params:
        descriptor = getattr(param, "type_descriptor", None)
        if descriptor is None:
            continue
        kind = descriptor.annotation
        if param.param_type_name == "option" and param.metavar is None and not param.is_flag:
            param.metavar = _metavar(kind)
        if kind is str or kind == list[str]:
            param._runtime_param = _Text(descriptor.parameter_info, kind)  # noqa: SLF001 (see above)
        elif kind is int:
            param._runtime_param = _Number(descriptor.parameter_info, kind)  # noqa: SLF001
        elif kind is bool and not param.envvar:
            param._runtime_param = _Flag(descriptor.parameter_info, kind)  # noqa: SLF001
        elif isinstance(kind, type) and issubclass(kind, StrEnum):
            param._runtime_param = _Choice(descriptor.parameter_info, kind)  # noqa: SLF001
