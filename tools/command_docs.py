"""``make docs``: writes docs/reference/commands.md from the commands' own help; a test compares them."""

import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pilothouse.cli import COMMANDS
from pilothouse.cli.exits import MEANINGS
from pilothouse.cli.groups import load_command

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "commands.md"
_HEAD = """\
# Commands

This page is generated from the commands by `make docs`. Each says the same with `--help`, all of them together in the
manual page of `pilothouse man`. How they belong together: [command-line.md](../command-line.md).
"""
_EXAMPLES = re.compile(r"\s*Examples?: (.*)", re.DOTALL)


def main() -> int:
    """Write the page."""
    PAGE.write_text(page())
    print(f"wrote {PAGE}")
    return 0


def page() -> str:
    """Return the page as it belongs in docs/reference/commands.md."""
    shown = {name: entry for name, entry in COMMANDS.items() if not entry.hidden}
    parts = [_HEAD]
    for name, entry in shown.items():
        parts += _command(f"pilothouse {name}", load_command(name, entry), entry.aliases)
    parts += [
        "## Connection options\n",
        "Every command that talks to a server takes these, before or after its name.\n",
    ]
    parts += [_options(load_command("list", COMMANDS["list"])._shared)]  # noqa: SLF001 (of our own class)
    parts += ["\n## Exit status\n", "| status | meaning |\n|---|---|"]
    parts += [f"| {status} | {_cell(meaning)} |" for status, meaning in MEANINGS.items()]
    return "\n".join([*parts, ""])


def _command(path: str, command: Any, aliases: Iterable[str] = ()) -> Iterator[str]:
    context = command.make_context(path, [], resilient_parsing=True)
    arguments = " ".join(command.collect_usage_pieces(context)[1:])
    yield f"{'#' * len(path.split())} {path}\n"
    yield f"    {path} {arguments}".rstrip() + "\n"
    text = " ".join((command.help or "").split())
    examples = _EXAMPLES.search(text)
    yield (text[: examples.start()] if examples else text).replace("<", "&lt;") + "\n"
    if aliases:
        yield f"Also: {', '.join(f'`{one}`' for one in aliases)}.\n"
    shared = {id(option) for option in getattr(command, "_shared", ())}
    own = [param for param in command.params if id(param) not in shared and param.name != "help"]
    options = [param for param in own if param.param_type_name == "option" and not param.hidden]
    if options:
        yield _options(options) + "\n"
    if examples:
        yield "\n".join(f"    {one}" for one in examples[1].split("; ")) + "\n"
    for name, inner in getattr(command, "commands", {}).items():
        yield from _command(f"{path} {name}", inner)


def _options(options: Iterable[Any]) -> str:
    rows = ["| option | meaning |", "|---|---|"]
    for option in options:
        words = ", ".join(f"`{name}`" for name in sorted(option.opts, key=len))
        value = "" if option.is_flag else f" `{option.metavar or 'VALUE'}`"
        rows.append(f"| {words}{value} | {_cell(option.help or '')} |")
    return "\n".join(rows)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    sys.exit(main())
