"""Texts that the scripts of pages show: a page gives them to its scripts, which put ``%(name)s`` in by themselves."""

from typing import Final

import orjson

from pilothouse.console.texts import Texts, gettext_noop, translate

#: Of console.js, on each page.
PAGE: Final = Texts({
    "d": gettext_noop("%(number)s d"),
    "h": gettext_noop("%(number)s h"),
    "min": gettext_noop("%(number)s min"),
    "s": gettext_noop("%(number)s s"),
    "ago": gettext_noop("%(duration)s ago"),
    "now": gettext_noop("now"),
    "zone": gettext_noop("times in %(zone)s"),
    "unreachable": gettext_noop("The server cannot be reached; what you see may be old."),
    "failing": gettext_noop("The server answers with an error (HTTP %(status)s); what you see may be old."),
    "asOf": gettext_noop("It is as of %(time)s."),
    "copied": gettext_noop("Copied"),
    "selected": gettext_noop("Selected"),
    "refilled": gettext_noop("What you had typed is back in the form. It was not sent; type passwords again."),
    "ticked": gettext_noop("%(number)s ticked:"),
})  # fmt: skip
#: Of tools/editor, on pages with values.
EDITOR: Final = Texts({
    "unjudged": gettext_noop("The values cannot be judged now; the plan will."),
    "line": gettext_noop("Line %(number)s: %(text)s"),
    "label": gettext_noop("%(label)s (Escape, then Tab leaves; Ctrl+F searches)"),
    "changes": gettext_noop("Show what I changed"),
    "notGiven": gettext_noop("not given"),
    "notGivenBut": gettext_noop("not given: %(value)s"),
    "titled": gettext_noop("%(title)s (%(name)s)"),
    "required": gettext_noop("%(title)s, required"),
    "inText": gettext_noop("%(title)s: in the text only"),
    "asForm": gettext_noop("Show as a form"),
    "noYaml": gettext_noop("The text is no YAML now; the form waits until it is."),
    "cannotSet": gettext_noop("%(path)s cannot be set: something above it is no mapping in the text."),
    "noSchema": gettext_noop("The chart has no schema to make a form from."),
    "noChart": gettext_noop("Choose a chart first."),
    "noValues": gettext_noop("The chart's schema names no values."),
})  # fmt: skip
#: Of CodeMirror, which the editor is made with; it knows them by their English.
PHRASES: Final = (
    gettext_noop("Find"),
    gettext_noop("Replace"),
    gettext_noop("next"),
    gettext_noop("previous"),
    gettext_noop("all"),
    gettext_noop("match case"),
    gettext_noop("regexp"),
    gettext_noop("by word"),
    gettext_noop("replace"),
    gettext_noop("replace all"),
    gettext_noop("close"),
    gettext_noop("current match"),
    gettext_noop("on line"),
    gettext_noop("replaced $ matches"),
    gettext_noop("replaced match on line $"),
    gettext_noop("Go to line"),
    gettext_noop("go"),
    gettext_noop("Fold line"),
    gettext_noop("Unfold line"),
    gettext_noop("folded code"),
    gettext_noop("unfold"),
    gettext_noop("to"),
    gettext_noop("Control character"),
    gettext_noop("Diagnostics"),
    gettext_noop("No diagnostics"),
    gettext_noop("$ unchanged lines"),
    gettext_noop("Selection deleted"),
    gettext_noop("Accept"),
    gettext_noop("Reject"),
    gettext_noop("Revert this chunk"),
)


def of_page() -> str:
    """Return the texts of console.js, as JSON."""
    return orjson.dumps(dict(PAGE)).decode()


def of_editor() -> str:
    """Return the texts of the editor, as JSON."""
    return orjson.dumps({"texts": dict(EDITOR), "phrases": {phrase: translate(phrase) for phrase in PHRASES}}).decode()
