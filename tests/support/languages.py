"""A second language for the console: each text in brackets, in a catalogue that Babel compiles as a translator's."""

import re
from pathlib import Path

from pilothouse.console import texts
from tools.console_texts import compile_catalogue, extract

#: Esperanto, which has plurals as English has.
PSEUDO = "eo"
_BRACKETS = re.compile(r"⟦[^⟦⟧]*⟧")


def make_pseudo(folder: Path) -> None:
    """Write the catalogue of the pseudo-language into a folder of catalogues."""
    catalogue = extract(PSEUDO)
    for message in catalogue:
        if isinstance(message.id, tuple):
            message.string = tuple(f"⟦{one}⟧" for one in message.id)
        elif message.id:
            message.string = f"⟦{message.id}⟧"
    file = folder / PSEUDO / "LC_MESSAGES" / f"{texts.DOMAIN}.mo"
    file.parent.mkdir(parents=True)
    file.write_bytes(compile_catalogue(catalogue))


def outside(text: str) -> str:
    """Return what of a text comes from no catalogue."""
    while _BRACKETS.search(text):
        text = _BRACKETS.sub("", text)
    return text


def copy_program(folder: Path) -> Path:
    """Return a path of Python in which the program has the pseudo-language installed; all else of it is linked."""
    program = Path(texts.__file__).parents[1]
    for source, but in ((program, "console"), (program / "console", "locale")):
        target = folder / source.relative_to(program.parent)
        target.mkdir(parents=True, exist_ok=True)
        for child in source.iterdir():
            if child.name not in {but, "__pycache__"}:
                (target / child.name).symlink_to(child)
    make_pseudo(folder / "pilothouse" / "console" / "locale")
    return folder
