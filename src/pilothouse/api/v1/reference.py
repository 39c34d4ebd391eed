"""The OpenAPI description of this API, and a self-contained page of it."""

import html
from collections.abc import Callable, Iterator
from typing import Any

import orjson
from fastapi import APIRouter, Response

from pilothouse.http.pages import Page
from pilothouse.http.reference import Field, Operation, sections

OPENAPI_PATH = "/api/v1/openapi.json"
REFERENCE_PATH = "/api/v1/docs"
_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2733;background:#fff}
code,pre{font:14px ui-monospace,monospace}h2{margin-top:3rem;border-bottom:1px solid #ccd5dd}
h3 code{background:#eef2f6;padding:.2rem .5rem;border-radius:.3rem}table{border-collapse:collapse;margin:.5rem 0}
th,td{text-align:left;padding:.2rem 1rem .2rem 0;vertical-align:top;border-bottom:1px solid #e6ebf0}
@media(prefers-color-scheme:dark){body{color:#dde5ee;background:#11171d}h3 code{background:#1e2831}
th,td,h2{border-color:#2a3641}}
"""
#: The page runs nothing and loads nothing.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
}


def routes(describe: Callable[[], dict[str, Any]]) -> APIRouter:
    """Return the page and the description; ``describe`` returns the OpenAPI description."""
    router = APIRouter()
    description = Page(lambda: orjson.dumps(describe()))
    page = Page(lambda: "".join(_page(describe())).encode(), media_type="text/html; charset=utf-8", headers=_HEADERS)

    @router.api_route(OPENAPI_PATH, methods=["GET", "HEAD"], include_in_schema=False)
    async def show_description() -> Response:
        """Return the OpenAPI description."""
        return await description.answer()

    @router.get(REFERENCE_PATH, include_in_schema=False)
    async def show_reference() -> Response:
        """Return the API reference."""
        return await page.answer()

    return router


def _page(openapi: dict[str, Any]) -> Iterator[str]:
    title = f"{openapi['info']['title']} {openapi['info']['version']}"
    yield f"<!doctype html><html lang=en><meta charset=utf-8><title>{_text(title)}</title><style>{_STYLE}</style>"
    yield '<meta name=viewport content="width=device-width">'
    yield f"<h1>{_text(title)}</h1>"
    for paragraph in openapi["info"]["description"].split("\n\n"):
        yield f"<p>{_text(paragraph)}</p>"
    yield '<p><a href="/api/v1/openapi.json">OpenAPI description</a></p>'
    for section in sections(openapi):
        yield f"<h2>{_text(section.name.capitalize())}</h2>"
        for operation in section.operations:
            yield from _operation(operation)


def _operation(operation: Operation) -> Iterator[str]:
    yield f"<h3><code>{operation.method} {_text(operation.path)}</code></h3>"
    for paragraph in operation.text.split("\n\n"):
        yield f"<p>{_text(paragraph)}</p>"
    if operation.public:
        yield "<p>Needs no credentials.</p>"
    yield from _table("Parameters", "", operation.parameters)
    yield from _table("Body", operation.takes_text, operation.takes)
    many = ", a list of" if operation.answers_list else ""
    if operation.answers:
        yield from _table(f"Answer {operation.status}{many}", operation.answers_text, operation.answers)
    else:
        yield f"<p>Answer {operation.status}.</p>"


def _table(title: str, text: str, fields: list[Field]) -> Iterator[str]:
    if not fields:
        return
    yield f"<p><b>{_text(title)}</b> {_text(text)}</p><table><tr><th>name<th>type<th>"
    for field in fields:
        needed = "" if field.required else " (optional)"
        yield f"<tr><td><code>{_text(field.name)}</code><td>{_text(field.type)}{needed}<td>{_text(field.text)}"
    yield "</table>"


def _text(text: str) -> str:
    """Escape the text and mark what is between backticks as code."""
    parts = html.escape(text).split("`")
    return "".join(f"<code>{part}</code>" if number % 2 else part for number, part in enumerate(parts))
