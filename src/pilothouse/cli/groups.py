"""Groups of commands. A command is imported when it runs, and each that talks to a server takes the same options."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from importlib import import_module
from textwrap import wrap
from typing import Any, TypeVar

import typer
from typer._click.exceptions import NoSuchOption, UsageError
from typer._click.formatting import HelpFormatter
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command

from pilothouse.cli.helm_words import command_hint, flag_hint, inner_hint
from pilothouse.cli.parsing import use_plain_parsing
from pilothouse.errors import PilothouseError

_META = "pilothouse.connection"
_OPTIONS = "pilothouse.options"
_GROUPS = "option_groups"

#: What an option means that stands without a value, as in Helm; a value follows it after an equals sign only.
_USUAL_COLUMNS = 70  # typer's own layout suits these and more
_LEAST_COLUMNS = 24
_LONGEST_SENTENCE = 200
#: How alike two options are of which one may be meant for the other.
_NEAR = 0.75
_CONTINUED = " \\"
_EXAMPLES = re.compile(r"\s*Examples?: (.*)", re.DOTALL)
_BARE = {"--wait": "watcher", "--dry-run": "client"}
_SWITCHES = {"true": True, "false": False}
Function = TypeVar("Function", bound=Callable[..., None])


@dataclass(frozen=True)
class Entry:
    """Where a command is, as ``module`` or ``module:function`` of ``cli.commands``, and its line in the help."""

    where: str
    help: str = ""
    aliases: tuple[str, ...] = ()
    hidden: bool = False
    connected: bool = False


class _NarrowHelp(HelpFormatter):
    """Help whose explanations have most of the width; what has no room beside them stands above."""

    def write_dl(self, rows: Any, col_max: int = 30, col_spacing: int = 2) -> None:
        """Write a list of options or commands."""
        super().write_dl(rows, min(col_max, self.width // 4), col_spacing)


def split_examples(text: str) -> tuple[str, list[str]]:
    """Return an explanation without its examples, which stand at its end, and these."""
    found = _EXAMPLES.search(text)
    if found is None:
        return text, []
    return text[: found.start()], [" ".join(example.split()) for example in found[1].split(";")]


class _Plain:
    """Parse options without pydantic, which takes 60 ms to load."""

    params: list[Any]
    help: str | None

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        use_plain_parsing(self.params)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Parse the words; who types an option of helm, or half of one, is told what there is."""
        try:
            rest: list[str] = super().parse_args(ctx, args)  # type: ignore[misc]  # the other base class is typer's, and has it
        except NoSuchOption as error:
            if hint := flag_hint(ctx.command_path.partition(" ")[2], error.option_name):
                error.message, error.possibilities = f"{error.message}: {hint}", None
            else:
                near = get_close_matches(error.option_name, error.possibilities or (), cutoff=_NEAR)
                error.possibilities = self._beginning(error.option_name) or near
            raise
        return rest

    def _beginning(self, typed: str) -> list[str]:
        """Return the long options that begin so."""
        options = [param for param in self.params if param.param_type_name == "option" and not param.hidden]
        return [name for option in options for name in option.opts if name.startswith("--") and name.startswith(typed)]

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """Return the words of the usage line, with arguments as their metavars say them."""
        names = {
            param._usage_display_name(): param.metavar  # noqa: SLF001 (what typer writes)
            for param in self.params
            if param.param_type_name == "argument" and param.metavar
        }
        pieces: list[str] = super().collect_usage_pieces(ctx)  # type: ignore[misc]  # the other base class is typer's, and has it
        return [names.get(piece, piece.strip("{}").upper() if piece[:1] == "{" else piece) for piece in pieces]

    def format_help_text(self, ctx: Any, formatter: Any) -> None:
        """Write the explanation, and each example on a line of its own, which can be copied."""
        whole = self.help
        self.help, examples = split_examples(whole or "")
        try:
            super().format_help_text(ctx, formatter)  # type: ignore[misc]  # the other base class is typer's, and has it
        finally:
            self.help = whole
        if not examples:
            return
        with formatter.section("Examples"):
            for example in examples:
                width = formatter.width - formatter.current_indent - len(_CONTINUED)
                lines = wrap(example, width, break_on_hyphens=False, break_long_words=False)
                text = f"{_CONTINUED}\n{' ' * formatter.current_indent}".join(lines)
                formatter.write(f"{' ' * formatter.current_indent}{text}\n")

    def get_help(self, ctx: Any) -> str:
        """Return the help, on a narrow terminal too without lines that it would break."""
        import shutil

        columns = shutil.get_terminal_size().columns
        if columns < _USUAL_COLUMNS:
            ctx.terminal_width = max(columns, _LEAST_COLUMNS) - 2
            ctx.formatter_class = _NarrowHelp
        text: str = super().get_help(ctx)  # type: ignore[misc]  # the other base class is typer's, and has it
        return text

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the first sentence, whole: it continues on the next line where there is no room for it."""
        text: str = super().get_short_help_str(max(limit, _LONGEST_SENTENCE))  # type: ignore[misc]  # typer's class has it
        return text

    def get_help_option(self, ctx: Any) -> Any:
        """Return ``--help``, as a flag that needs no pydantic either."""
        option = super().get_help_option(ctx)  # type: ignore[misc]  # the other base class is typer's, and has it
        use_plain_parsing([option])
        return option


class _Connected(_Plain):
    """Add the connection options to a command or group; each of them may stand before or after any command's name.

    ``groups`` declare options that several commands have.
    """

    groups: tuple[Callable[..., None], ...] = ()

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self._grouped = [option for group in self.groups for option in _declared(group)]
        self.params = [*(param for param in self.params if param.name != "help"), *self._grouped]
        own = {name for param in self.params for name in param.opts}
        self._shared = [option for option in _connection_options() if own.isdisjoint(option.opts)]
        self.params = [*self.params, *self._shared]
        use_plain_parsing(self.params)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Move the values of the connection options to the context's ``meta``; what stands further right wins."""
        rest = super().parse_args(ctx, _as_click_reads(args, self.params))
        if self.groups:
            ctx.meta[_OPTIONS] = {option.name: ctx.params.pop(option.name, None) for option in self._grouped}
        options = {option.name: ctx.params.pop(option.name, None) for option in self._shared}
        connection = ctx.meta.setdefault(_META, {})
        connection.update({name: value for name, value in options.items() if value is not None})
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


class PlainCommand(_Plain, TyperCommand):
    """A command that works on this machine."""


class PlainGroup(_Plain, TyperGroup):
    """A group of such commands."""


class ConnectedCommand(_Connected, TyperCommand):
    """A command that talks to a server."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; who named what is not there is told what there is."""
        try:
            return super().invoke(ctx)
        except PilothouseError as error:
            from pilothouse.cli.missing import with_hint

            told = with_hint(ctx, error)
            if told is error:
                raise
            raise told from error


class ConnectedGroup(_Connected, TyperGroup):
    """A group of such commands."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the command; who names none of them is told which there are."""
        if hint := inner_hint(ctx.command_path.partition(" ")[2], args[0]):
            ctx.fail(f"No such command '{args[0]}'; here: {hint}")
        try:
            return super().resolve_command(ctx, args)
        except UsageError as error:
            if "Did you mean" not in error.message:
                shown = (name for name, command in self.commands.items() if not command.hidden)
                error.message = f"{error.message.rstrip('.')}: {ctx.command_path} {'|'.join(shown)}"
            raise


class LazyGroup(_Connected, TyperGroup):
    """The group of all commands; a command's module is imported when the command is named."""

    entries: Mapping[str, Entry] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.commands = {
            name: PlainCommand(name=name, help=entry.help, hidden=entry.hidden, rich_markup_mode=None)
            for name, entry in self.entries.items()
        }
        self._names = {alias: name for name, entry in self.entries.items() for alias in entry.aliases}

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """Return the real command in place of the one that only stands in the help."""
        if args[0] not in self.commands and args[0] not in self._names and (hint := command_hint(args)):
            ctx.fail(f"No such command '{args[0]}'; here: {hint}")
        name, found, rest = super().resolve_command(ctx, [self._names.get(args[0], args[0]), *args[1:]])
        return name, load_command(name, self.entries[name]) if found is not None and name else None, rest


class PlainTyper(typer.Typer):
    """A group whose commands work on this machine."""

    def command(self, name: str | None = None, **attributes: Any) -> Callable[[Any], Any]:
        """Register a command, as typer does."""
        return super().command(name, cls=PlainCommand, **attributes)


class ConnectedTyper(typer.Typer):
    """A group whose commands take the connection options."""

    def command(self, name: str | None = None, **attributes: Any) -> Callable[[Any], Any]:
        """Register a command, as typer does."""

        def register(function: Any) -> Any:
            return super(ConnectedTyper, self).command(name, cls=_class_of(function), **attributes)(function)

        return register


def load_command(name: str, entry: Entry) -> Any:
    """Import and return the command of this entry."""
    module_name, _, function = entry.where.partition(":")
    module = import_module(f"pilothouse.cli.commands.{module_name}")
    if not function:
        return get_command(module.app)
    alone = typer.Typer(rich_markup_mode=None, add_completion=False)
    found = getattr(module, function)
    alone.command(name, cls=_class_of(found) if entry.connected else PlainCommand)(found)
    return get_command(alone)


def takes(*groups: Callable[..., None]) -> Callable[[Function], Function]:
    """Give a command the options that these functions declare; ``options_of`` returns their values."""

    def mark(function: Function) -> Function:
        setattr(function, _GROUPS, groups)
        return function

    return mark


def options_of(context: typer.Context) -> dict[str, Any]:
    """Return the values of the options that ``takes`` gave the command, by the names of their parameters."""
    return dict(context.meta[_OPTIONS])


def _class_of(function: Callable[..., None]) -> type[ConnectedCommand]:
    return type("_Command", (ConnectedCommand,), {"groups": getattr(function, _GROUPS, ())})


def command_group(description: str) -> typer.Typer:
    """Return a group with plain-text help: drawing boxes takes 60 ms to load."""
    return PlainTyper(
        help=description, no_args_is_help=True, rich_markup_mode=None, add_completion=False, cls=PlainGroup
    )


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


def _connection_options() -> tuple[Any, ...]:
    from pilothouse.cli.connection import options

    return _declared(options)


@cache
def _declared(function: Callable[..., None]) -> tuple[Any, ...]:
    """Return the options that the parameters of a function declare."""
    alone = typer.Typer(rich_markup_mode=None, add_completion=False)
    alone.command()(function)
    return tuple(param for param in get_command(alone).params if param.name != "help")


def _as_click_reads(args: list[str], params: list[Any]) -> list[str]:
    """Return the words with Helm's ``--wait`` (no value) and ``--install=true`` (a value of a switch) made whole."""
    flags = {name: param.is_flag for param in params for name in param.opts if name.startswith("--")}
    end = args.index("--") if "--" in args else len(args)
    read: list[str] = []
    for word in args[:end]:
        name, equals, value = word.partition("=")
        if not equals and flags.get(name) is False and name in _BARE:
            read.append(f"{name}={_BARE[name]}")
        elif equals and flags.get(name) and value in _SWITCHES:
            read.extend([name] if _SWITCHES[value] else [])
        else:
            read.append(word)
    return [*read, *args[end:]]


def _nothing() -> None:
    """Make a group of a single command a group: typer asks for a callback."""
