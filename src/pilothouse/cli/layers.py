"""The values that a command gives to a chart, as layers in Helm's order: files, then the flags ``--set…``."""

import json
import re
import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from pilothouse.cli.exits import UsageError
from pilothouse.cli.groups import options_of

#: A comma, or the first equals sign, that no backslash takes its meaning from.
_COMMA: Final = re.compile(r"(?<!\\),")
_EQUALS: Final = re.compile(r"(?<!\\)=")


def value_options(  # noqa: PLR0917 (typer reads parameters as options)
    values: Annotated[
        list[str] | None,
        typer.Option(
            "--values", "-f", metavar="FILE", help="YAML file of values, or - for standard input; repeatable."
        ),
    ] = None,
    set_values: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Set a value: a.b=1,c[0]=x; repeatable.")
    ] = None,
    set_string: Annotated[
        list[str] | None, typer.Option("--set-string", metavar="KEY=VALUE", help="The same, always as text.")
    ] = None,
    set_json: Annotated[
        list[str] | None, typer.Option("--set-json", metavar="KEY=JSON", help="The same, as JSON; or one JSON object.")
    ] = None,
    set_file: Annotated[
        list[str] | None, typer.Option("--set-file", metavar="KEY=FILE", help="Set a value to the text of a file.")
    ] = None,
    set_literal: Annotated[
        list[str] | None, typer.Option("--set-literal", metavar="KEY=TEXT", help="Set a value, commas and all.")
    ] = None,
) -> None:
    """Declare the options of commands that take values."""


def layers_of(context: typer.Context) -> list[dict[str, str]]:
    """Return kind, text and name of each layer, the first at the bottom."""
    options = options_of(context)
    files = [file for listed in options["values"] or () for file in listed.split(",")]
    flags = {
        "set_json": options["set_json"],
        "set": options["set_values"],
        "set_string": options["set_string"],
        "set_file": options["set_file"],
        "set_literal": options["set_literal"],
    }
    return [
        *({"kind": "yaml", "text": _read(file, "--values"), "name": file} for file in files),
        *(_layer(kind, text) for kind, texts in flags.items() for text in texts or ()),
    ]


def wire_layers(context: typer.Context) -> list[dict[str, str]]:
    """Return the layers as a body of the API has them."""
    return [{layer["kind"]: layer["text"], "name": layer["name"]} for layer in layers_of(context)]


def _layer(kind: str, text: str) -> dict[str, str]:
    name = f"--{kind.replace('_', '-')}"
    if kind == "set_file":
        pairs = [_EQUALS.split(pair, maxsplit=1) for pair in _COMMA.split(text)]
        if any(len(pair) == 1 for pair in pairs):
            raise UsageError(f"--set-file: {text!r} must be KEY=FILE, or several of them with commas between")
        kind, text = "set_json", ",".join(f"{key}={json.dumps(_read(file, name))}" for key, file in pairs)
    return {"kind": kind, "text": text, "name": name}


def _read(file: str, option: str) -> str:
    if not file:
        raise UsageError(f"{option}: the name of a file is missing")
    if "://" in file:
        raise UsageError(f"{option}: {file} is a URL; fetch it first, for example 'curl … | pilothouse … -f -'")
    try:
        return sys.stdin.read() if file == "-" else Path(file).expanduser().read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{option}: {file} is not a text in UTF-8 (at byte {error.start})") from error
    except OSError as error:
        raise UsageError(f"{option}: cannot read {file}: {error.strerror}; you are in {Path.cwd()}") from error
