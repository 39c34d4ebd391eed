"""The manual page, made of the commands' own help: it cannot fall behind them."""

from collections.abc import Iterable, Iterator
from typing import Any, Final

from pilothouse import __version__
from pilothouse.cli import COMMANDS
from pilothouse.cli.exits import MEANINGS
from pilothouse.cli.groups import load_command, split_examples

_INTRODUCTION: Final = (
    "talks to a Pilothouse server, which runs Helm in Kubernetes clusters. Log in once with 'pilothouse login URL'; "
    "then the commands and flags are those of helm."
)


def man_page() -> Iterator[str]:
    """Yield the lines of the page, in the language of man(7)."""
    yield f'.TH PILOTHOUSE 1 "" "pilothouse {__version__}" "User Commands"'
    yield ".SH NAME"
    yield "pilothouse \\- Helm releases through a server"
    yield ".SH SYNOPSIS"
    yield ".B pilothouse\n.I command\n[\\fIoption\\fR ...] [\\fIargument\\fR ...]"
    yield ".SH DESCRIPTION"
    yield f".B pilothouse\n{_text(_INTRODUCTION)}"
    yield ".SH COMMANDS"
    for name, entry in COMMANDS.items():
        if not entry.hidden:
            yield from _command(f"pilothouse {name}", load_command(name, entry), entry.aliases)
    yield ".SH CONNECTION OPTIONS"
    yield "Every command that talks to a server takes these, before or after its name."
    yield from _options(load_command("list", COMMANDS["list"])._shared)  # noqa: SLF001 (of our own class)
    yield ".SH EXIT STATUS"
    for status, meaning in MEANINGS.items():
        yield f".TP\n.B {status}\n{_text(meaning)}"


def _command(path: str, command: Any, aliases: Iterable[str] = ()) -> Iterator[str]:
    context = command.make_context(path, [], resilient_parsing=True)
    arguments = " ".join(command.collect_usage_pieces(context)[1:])
    yield f".SS {_text(f'{path} {arguments}'.strip())}"
    help_text, examples = split_examples(command.help or "")
    yield _text(" ".join(help_text.split()))
    if aliases:
        yield f"Also: {_text(', '.join(aliases))}."
    shared = {id(option) for option in getattr(command, "_shared", ())}
    own = (param for param in command.params if id(param) not in shared and param.name != "help")
    yield from _options(param for param in own if param.param_type_name == "option" and not param.hidden)
    if examples:
        yield ".PP\n.nf"
        yield from (_text(example) for example in examples)
        yield ".fi"
    for name, inner in getattr(command, "commands", {}).items():
        yield from _command(f"{path} {name}", inner)


def _options(options: Iterable[Any]) -> Iterator[str]:
    for option in options:
        words = ", ".join(_text(name) for name in sorted(option.opts, key=len))
        value = "" if option.is_flag else f" \\fI{_text(option.metavar or 'VALUE')}\\fR"
        yield f".TP\n.B {words}{value}\n{_text(option.help or '')}"


def _text(text: str) -> str:
    """Return the text without what roff would take for its own."""
    escaped = text.replace("…", "...").replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{escaped}" if escaped.startswith((".", "'")) else escaped
