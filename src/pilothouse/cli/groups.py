"""Groups of commands. A command is imported when it runs, and each that talks to a server takes the same options."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from pilothouse.cli.parsing import use_plain_parsing

_META = "pilothouse.connection"


@dataclass(frozen=True)
class Entry:
    """Where a command is, as ``module`` or ``module:function`` of ``cli.commands``, and its line in the help."""

    where: str
    help: str = ""
    aliases: tuple[str, ...] = ()
    hidden: bool = False
    connected: bool = False


class _Connected:
    """Add the connection options to a command or group; each of them may stand before or after any command's name."""

    params: list[Any]

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        own = {name for param in self.params for name in param.opts}
        self._shared = [option for option in _connection_options() if own.isdisjoint(option.opts)]
        self.params = [*self.params, *self._shared]
        use_plain_parsing(self.params)

    def get_help_option(self, ctx: Any) -> Any:
        """Return ``--help``, as a flag that needs no pydantic either."""
        option = super().get_help_option(ctx)  # type: ignore[misc]  # the other base class is typer's, and has it
        use_plain_parsing([option])
        return option

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move the values of the connection options to the context's ``meta``; what stands further right wins."""
        rest: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]  # the other base class is typer's, and has it
        given = {option.name: ctx.params.pop(option.name, None) for option in self._shared}
        connection = ctx.meta.setdefault(_META, {})
        connection.update({name: value for name, value in given.items() if value is not None})
        return rest

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the command's own options first, and the shared ones under a heading of their own."""
        everything, shared = self.params, [*self._shared]
        self.params = [param for param in everything if param not in shared]
        try:
            super().format_options(ctx, formatter)  # type: ignore[misc]  # the other base class is typer's, and has it
        finally:
            self.params = everything
        with formatter.section("Connection"):
            formatter.write_dl([option.get_help_record(ctx) for option in shared])


class ConnectedCommand(_Connected, TyperCommand):
    """A command that talks to a server."""


class ConnectedGroup(_Connected, TyperGroup):
    """A group of such commands."""


class LazyGroup(_Connected, TyperGroup):
    """The group of all commands; a command's module is imported when the command is named."""

    entries: Mapping[str, Entry] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {
            name: TyperCommand(name, help=entry.help, hidden=entry.hidden, rich_markup_mode=None)
            for name, entry in self.entries.items()
        }
        self._names = {alias: name for name, entry in self.entries.items() for alias in entry.aliases}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the real command in place of the one that only stands in the help."""
        name, found, rest = super().resolve_command(ctx, [self._names.get(args[0], args[0]), *args[1:]])
        return name, load_command(name, self.entries[name]) if found is not None and name else None, rest


class ConnectedTyper(typer.Typer):
    """A group whose commands take the connection options."""

    def command(self, name: str | None = None, **attributes: Any) -> Callable[[Any], Any]:
        """Register a command, as typer does."""
        return super().command(name, cls=ConnectedCommand, **attributes)


def load_command(name: str, entry: Entry) -> Any:
    """Import and return the command of this entry."""
    module_name, _, function = entry.where.partition(":")
    module = import_module(f"pilothouse.cli.commands.{module_name}")
    if not function:
        return get_command(module.app)
    alone = typer.Typer(rich_markup_mode=None, add_completion=False)
    alone.command(name, cls=ConnectedCommand if entry.connected else TyperCommand)(getattr(module, function))
    return get_command(alone)


def command_group(description: str) -> typer.Typer:
    """Return a group with plain-text help: drawing boxes takes 60 ms to load."""
    return typer.Typer(help=description, no_args_is_help=True, rich_markup_mode=None, add_completion=False)


def connected_group(description: str) -> typer.Typer:
    """Return a group of commands that talk to a server."""
    group = ConnectedTyper(
        help=description, no_args_is_help=True, rich_markup_mode=None, add_completion=False, cls=ConnectedGroup
    )
    group.callback()(_nothing)
    return group


def connection_options_of(context: typer.Context) -> dict[str, Any]:
    """Return the connection options that the command line gives, by the names of ``connection.options``."""
    return dict(context.meta.get(_META, {}))


@cache
def _connection_options() -> tuple[Any, ...]:
    from pilothouse.cli.connection import options

    alone = typer.Typer(rich_markup_mode=None, add_completion=False)
    alone.command()(options)
    return tuple(param for param in get_command(alone).params if param.name != "help")


def _nothing() -> None:
    """Make a group of a single command a group: typer asks for a callback."""
