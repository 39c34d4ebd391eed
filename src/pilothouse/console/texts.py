"""The language of pages: of the catalogues that are installed, the one that the browser prefers; English else.

A message is its English text. Templates and Python mark it by a call of ``gettext`` or ``ngettext``; texts that are
chosen by a name stand in ``Texts``.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import lru_cache
from gettext import GNUTranslations, NullTranslations
from pathlib import Path
from typing import Any, Final

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

LOCALE: Final = Path(__file__).parent / "locale"
DOMAIN: Final = "messages"
#: Of the header; browsers send a tenth of it.
_LONGEST: Final = 1000
_MOST_TAGS: Final = 20
#: Of a tag: language, script, region and variant, as RFC 5646 has them.
_MOST_SUBTAGS: Final = 4
_WEIGHT: Final = re.compile(r"\s*q=([01](?:\.[0-9]{0,3})?)\s*")


@dataclass(frozen=True)
class Language:
    """A language as HTML names it, with its catalogue."""

    tag: str
    catalogue: NullTranslations


ENGLISH: Final = Language("en", NullTranslations())
_spoken: ContextVar[Language] = ContextVar("spoken", default=ENGLISH)


def read_languages(folder: Path) -> dict[str, Language]:
    """Return the languages by tag in lower case that have a compiled catalogue in the folder, and English."""
    found = {ENGLISH.tag: ENGLISH}
    for file in sorted(folder.glob(f"*/LC_MESSAGES/{DOMAIN}.mo")):
        tag = file.parts[-3].replace("_", "-")
        with file.open("rb") as opened:
            found[tag.lower()] = Language(tag, GNUTranslations(opened))
    return found


@lru_cache(maxsize=1)
def installed() -> Mapping[str, Language]:
    """Return the languages that the console comes with."""
    return read_languages(LOCALE)


def choose_language(accepted: str, languages: Mapping[str, Language]) -> Language:
    """Return the first language that an Accept-Language prefers, or the one that it is a variant of; English else."""
    for tag in _read_preferred(accepted[:_LONGEST]):
        parts = tag.split("-", _MOST_SUBTAGS)[:_MOST_SUBTAGS]
        for length in range(len(parts), 0, -1):
            if language := languages.get("-".join(parts[:length])):
                return language
    return ENGLISH


def _read_preferred(accepted: str) -> list[str]:
    weighed = []
    for one in accepted.split(",", _MOST_TAGS)[:_MOST_TAGS]:
        tag, _, weight = one.partition(";")
        found = _WEIGHT.fullmatch(weight)
        weighed.append((tag.strip().lower(), float(found[1]) if found is not None else 1.0))
    return [tag for tag, weight in sorted(weighed, key=lambda one: -one[1]) if weight > 0]


class InLanguage:
    """Serve each request in the language that its browser prefers."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        accepted = Headers(scope=scope).get("accept-language", "") if "headers" in scope else ""
        with speaking(choose_language(accepted, installed())):
            await self._app(scope, receive, send)


@contextmanager
def speaking(language: Language) -> Iterator[None]:
    """Make texts in the language, in this task and in the threads that it waits for."""
    token = _spoken.set(language)
    try:
        yield
    finally:
        _spoken.reset(token)


def spoken() -> Language:
    """Return the language of the page."""
    return _spoken.get()


def translate(message: str) -> str:
    """Return the message in the language of the page; as it is if the catalogue lacks it."""
    return _spoken.get().catalogue.gettext(message) if message else ""


def translate_number(one: str, several: str, number: int) -> str:
    """Return the message for that number in the language of the page."""
    return _spoken.get().catalogue.ngettext(one, several, number)


def gettext(message: str, **variables: Any) -> str:
    """Return the message in the language of the page, with its variables: ``%(name)s``."""
    return translate(message) % variables if variables else translate(message)


def ngettext(one: str, several: str, num: int, **variables: Any) -> str:
    """Return the message for that number, which is its variable ``num``, in the language of the page."""
    return translate_number(one, several, num) % {"num": num, **variables}


def gettext_noop(message: str) -> str:
    """Return the message as it is: it is marked here, and translated where it is shown."""
    return message


class Texts(Mapping[str, str]):
    """Texts by name, each in the language of the page; in the order in which they are given."""

    def __init__(self, messages: Mapping[str, str]) -> None:
        self._messages = messages

    def __getitem__(self, name: str) -> str:
        """Return the text of the name."""
        return translate(self._messages[name])

    def __iter__(self) -> Iterator[str]:
        """Iterate over the names."""
        return iter(self._messages)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._messages)
