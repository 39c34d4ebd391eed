"""The language of a page: chosen by the browser, made from a catalogue, escaped as ever."""

import io
from collections.abc import Iterator
from gettext import GNUTranslations
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from babel.messages.catalog import Catalog
from babel.messages.pofile import read_po
from starlette.types import Message, Receive, Scope, Send

from pilothouse.console import bulk, operations, plan_words, words
from pilothouse.console.rendering import environment, page
from pilothouse.console.texts import (
    ENGLISH,
    InLanguage,
    Language,
    Texts,
    choose_language,
    gettext,
    ngettext,
    read_languages,
    speaking,
    spoken,
)
from pilothouse.console.words import explain
from pilothouse.errors import Busy
from pilothouse.states import Action
from tests.support.languages import PSEUDO, make_pseudo, outside
from tests.unit.console.test_rendering import request_of
from tools import console_texts


@pytest.fixture(scope="module")
def pseudo(tmp_path_factory: pytest.TempPathFactory) -> Language:
    """A language that puts each text in brackets."""
    folder = tmp_path_factory.mktemp("locale")
    make_pseudo(folder)
    return read_languages(folder)[PSEUDO]


@pytest.fixture
def in_pseudo(pseudo: Language) -> Iterator[Language]:
    """The same, and pages are in it."""
    with speaking(pseudo):
        yield pseudo


def test_the_catalogue_has_the_texts_of_the_code(capsys: pytest.CaptureFixture[str]):
    assert console_texts.main(["--check"]) == 0, capsys.readouterr().err


INSTALLED = {
    one.tag.lower(): one for one in (ENGLISH, *(Language(tag, ENGLISH.catalogue) for tag in ("zh", "zh-TW", "eo")))
}


@pytest.mark.parametrize(
    ("accepted", "tag"),
    [
        ("", "en"),
        ("zh", "zh"),
        ("zh-CN,zh;q=0.9,en;q=0.8", "zh"),
        ("zh-TW,zh;q=0.9", "zh-TW"),
        ("zh-Hant-TW", "zh"),
        ("en-GB,zh;q=0.9", "en"),
        ("fr,eo;q=0.5,zh;q=0.7", "zh"),
        ("fr", "en"),
        ("zh;q=0", "en"),
        ("ZH-cn", "zh"),
        ("*", "en"),
        (";;,,q=;zh;q=x", "en"),
        ("eo;q=0.900 , zh;q=0.95", "zh"),
        ("x," * 10_000 + "zh", "en"),
        ("x," * 30 + "zh", "en"),
        ("zh-" + "-" * 990, "zh"),
        ("zh-TW-a-b-c-d-e", "zh-TW"),
        ("../../zh", "en"),
    ],
)
def test_the_first_language_that_a_browser_prefers_and_that_is_there_is_chosen(accepted: str, tag: str):
    assert choose_language(accepted, INSTALLED).tag == tag


def test_a_folder_without_catalogues_speaks_english(tmp_path: Path):
    assert set(read_languages(tmp_path)) == {"en"}


async def test_each_request_is_served_in_the_language_of_its_browser(pseudo: Language, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("pilothouse.console.texts.installed", lambda: {"en": ENGLISH, PSEUDO: pseudo})
    said = []

    async def answer(_scope: Scope, _receive: Receive, _send: Send) -> None:
        said.append((spoken().tag, gettext("now")))

    async def nothing() -> Message:
        return {}

    async def ignore(_message: Message) -> None:
        pass

    for accepted in (b"eo", b"en"):
        await InLanguage(answer)({"type": "http", "headers": [(b"accept-language", accepted)]}, nothing, ignore)
    assert said == [("eo", "⟦now⟧"), ("en", "now")]
    assert spoken() is ENGLISH


class Read(HTMLParser):
    """The texts of a page, but those in elements that hold data."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.data: list[str] = []
        self._inside: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._inside.append(tag)
        self.data += [value or "" for name, value in attrs if name in {"title", "aria-label", "placeholder"}]

    def handle_endtag(self, tag: str) -> None:
        while tag in self._inside and self._inside.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if self._inside[-1:] not in (["code"], ["kbd"]):
            self.data.append(data)


@pytest.mark.usefixtures("in_pseudo")
async def test_a_page_in_another_language_says_so_and_has_no_english_left():
    heading, advice, _ = explain(Busy("problem"))
    said: dict[str, Any] = {"heading": heading, "advice": advice, "again": "", "came_from": "", "ours": True}
    answer = await page(request_of(), "error.html", code="code", problem="problem", **said)
    text = bytes(answer.body).decode()
    assert '<html lang="eo">' in text
    left = "".join(outside("".join(Read(text).data)).split())
    assert left.replace("Pilothouse", "").replace("problem", "").replace("code", "").strip("·0123456789.") == ""
    assert "Accept-Language" in answer.headers["vary"]


@pytest.mark.usefixtures("in_pseudo")
def test_words_and_texts_by_name_are_in_the_language_of_the_page():
    assert words.state("failed").text == "⟦Failed⟧"
    assert words.status("something of Helm's").text == "something of Helm's"
    assert words.status("").text == "⟦Unknown⟧"
    assert words.action(Action.INSTALL) == "⟦Install⟧"
    assert plan_words.name_options("set options.no_hooks").startswith("⟦choose the option “⟦Run no hooks⟧”⟧")
    assert ngettext("%(num)s character", "%(num)s characters", 3) == "3 characters"
    assert ngettext("%(num)s version", "%(num)s versions", 1) == "⟦1 version⟧"


HOSTILE = "<script>alert(1)</script>%(name)s%s"


@pytest.mark.parametrize("language", ["english", "pseudo"])
@pytest.mark.parametrize(
    "source",
    [
        '{{ _("by %(name)s", name=text) }}',
        '{{ _("by %(name)s", name=text|bdi) }}',
        '{{ ngettext("%(name)s, %(num)s time", "%(name)s, %(num)s times", 3, name=text) }}',
        "{% trans name=text %}by {{ name }}{% endtrans %}",
        "{{ text|code }}{{ text|strong }}{{ text|number }}{{ text|bdi|code }}",
    ],
)
def test_what_is_put_into_a_text_is_escaped(source: str, language: str, pseudo: Language):
    with speaking(pseudo if language == "pseudo" else ENGLISH):
        text = environment().from_string(source).render(text=HOSTILE)
    assert "&lt;script&gt;" in text
    assert "<script" not in text
    assert "%(name)s%s" in text


def test_a_translation_may_use_its_variables_in_another_order_and_twice():
    catalogue = Catalog(locale=PSEUDO)
    catalogue.add("%(one)s of %(all)s", "%(all)s, %(one)s: %(all)s <b>100%%</b>", flags=["python-format"])
    with speaking(Language(PSEUDO, GNUTranslations(io.BytesIO(console_texts.compile_catalogue(catalogue))))):
        page, given = (
            environment().from_string(source).render(one="<1>", all=2)
            for source in (
                '{{ _("%(one)s of %(all)s", one=one, all=all) }}',
                '{% set x = _("%(one)s of %(all)s", one=one, all=all) %}{{ x }}',
            )
        )
    assert page == given == "2, &lt;1&gt;: 2 <b>100%</b>"


@pytest.mark.parametrize("texts", [words.CANCEL_QUESTIONS, words.CANCEL_ORDERS, bulk.UNDERWAY, operations.CONSEQUENCES])
def test_each_action_has_its_text(texts: Texts):
    assert set(texts) == set(Action)


def test_a_translation_with_another_variable_than_its_text_is_refused():
    catalogue = Catalog(locale=PSEUDO)
    catalogue.add("by %(name)s", "de %(nomo)s")
    with pytest.raises(console_texts.WrongTranslation, match="by %"):
        console_texts.compile_catalogue(catalogue)


@pytest.mark.parametrize("language", ["eo", "zh"])
def test_a_translators_catalogue_gets_new_texts_and_keeps_what_is_translated(language: str, tmp_path: Path):
    file = tmp_path / language / "LC_MESSAGES" / "messages.po"
    file.parent.mkdir(parents=True)
    empty = console_texts.TEMPLATE.read_bytes()
    file.write_bytes(empty.replace(b'msgid "Deployed"\nmsgstr ""', b'msgid "Deployed"\nmsgstr "Disvolvita"'))
    with console_texts.TEMPLATE.open("rb") as template:
        texts = read_po(template)
    texts.add("a text that is new", "")
    made = dict(console_texts.translated(texts, tmp_path))
    assert b'msgid "a text that is new"' in made[file]
    for one, content in made.items():
        one.write_bytes(content)
    assert dict(console_texts.translated(texts, tmp_path)) == made
    assert all(b"Creation-Date: 2000-01-01" in content for content in made.values()), "it depends on no clock"
    with speaking(read_languages(tmp_path)[language]):
        assert words.status("deployed").text == "Disvolvita"
        assert words.status("failed").text == "Failed"
        assert ngettext("%(num)s version", "%(num)s versions", 2) == "2 versions"
