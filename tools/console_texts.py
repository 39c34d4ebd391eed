"""Writes the catalogue of the console's texts, which translators copy: ``python -m tools.console_texts``.

``--check`` only compares. The catalogue of each language that is there gets the new texts, and is compiled.
"""

import io
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from babel.messages.catalog import Catalog
from babel.messages.extract import DEFAULT_KEYWORDS, extract_from_dir
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po, write_po

from pilothouse.console.texts import DOMAIN, LOCALE

CONSOLE: Final = LOCALE.parent
TEMPLATE: Final = LOCALE / f"{DOMAIN}.pot"
_METHODS: Final = [("templates/**.html", "jinja2"), ("**.py", "python")]
#: As the console's own environment reads its templates.
_OPTIONS: Final[dict[str, dict[str, Any]]] = {
    "templates/**.html": {"trim_blocks": "true", "lstrip_blocks": "true", "silent": "false"},
}
_KEYWORDS: Final[dict[str, Any]] = {**DEFAULT_KEYWORDS, "gettext_noop": None, "Word": (1,)}
#: In place of the time at which it runs: the same texts make the same files.
_NO_DATE: Final = datetime(2000, 1, 1, tzinfo=UTC)
_HEAD: Final = """\
# Texts of Pilothouse's console; written by `make docs`.
# For a language, copy it to LANGUAGE/LC_MESSAGES/messages.po, and write each translation in its msgstr.
msgid ""
msgstr ""
"Project-Id-Version: Pilothouse\\n"
"MIME-Version: 1.0\\n"
"Content-Type: text/plain; charset=utf-8\\n"
"Content-Transfer-Encoding: 8bit\\n"

"""


class WrongTranslation(Exception):
    """A catalogue would break pages."""


def main(arguments: list[str]) -> int:
    """Write what is not as the code says; return 1 if only asked whether there is any."""
    made = generate()
    stale = [file for file, content in made.items() if not file.exists() or file.read_bytes() != content]
    if arguments == ["--check"]:
        for file in stale:
            print(f"{file} is not what the code says: run `make docs`", file=sys.stderr)
        return 1 if stale else 0
    for file, content in made.items():
        file.write_bytes(content)
        print(f"wrote {file}")
    return 0


def generate() -> Mapping[Path, bytes]:
    """Return the files of all catalogues with what belongs in them."""
    texts = extract()
    return {TEMPLATE: template(texts), **dict(translated(texts, LOCALE))}


def extract(language: str | None = None) -> Catalog:
    """Return the texts that templates and Python mark, for the translations into a language."""
    catalogue = Catalog(locale=language, project="Pilothouse", charset="utf-8")
    for file, _, message, comments, context in sorted(
        extract_from_dir(CONSOLE, _METHODS, _OPTIONS, keywords=_KEYWORDS), key=lambda found: found[:2]
    ):
        catalogue.add(message, "", locations=[(file, 0)], auto_comments=comments, context=context)
    return catalogue


def template(texts: Catalog) -> bytes:
    """Return the catalogue without translations, the same for the same texts."""
    return _HEAD.encode() + _written(texts, omit_header=True)


def compile_catalogue(catalogue: Catalog) -> bytes:
    """Return the catalogue as programs read it; raise WrongTranslation for one with other variables than its text."""
    whole = Catalog(locale=catalogue.locale, creation_date=_NO_DATE)
    for message in catalogue:
        strings = message.string if isinstance(message.string, list | tuple) else (message.string,)
        if message.id and all(strings):  # what is not translated stays English
            whole[message.id] = message
    for message, problems in whole.check():
        raise WrongTranslation(f"{catalogue.locale_identifier}: {message.id!r}: {problems[0]}")
    compiled = io.BytesIO()
    write_mo(compiled, whole)
    return compiled.getvalue()


def translated(texts: Catalog, folder: Path) -> Iterator[tuple[Path, bytes]]:
    """Yield the catalogue of each language in the folder with these texts, and how programs read it."""
    for file in sorted(folder.glob(f"*/LC_MESSAGES/{DOMAIN}.po")):
        with file.open("rb") as opened:
            catalogue = read_po(opened, locale=file.parts[-3])
        catalogue.creation_date = _NO_DATE
        catalogue.update(texts, no_fuzzy_matching=True, update_creation_date=False)
        yield file, _written(catalogue, ignore_obsolete=True)
        yield file.with_suffix(".mo"), compile_catalogue(catalogue)


def _written(catalogue: Catalog, **options: bool) -> bytes:
    written = io.BytesIO()
    write_po(written, catalogue, width=120, include_lineno=False, sort_by_file=True, **options)
    return written.getvalue()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
