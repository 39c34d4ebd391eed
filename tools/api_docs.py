"""``make docs``: writes docs/openapi.json, what the server says of its own API, and docs/api.md for people from it.

A test compares them, so that they cannot grow old.
"""

import asyncio
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
from starlette.types import ASGIApp

from pilothouse.api.v1.reference import OPENAPI_PATH
from pilothouse.app import create_app
from pilothouse.http.errors import statuses
from pilothouse.http.reference import Field, Operation, sections
from pilothouse.services.operations.notifications import Notifications
from pilothouse.settings import Settings
from pilothouse.wiring import build_runtime

DOCS = Path(__file__).resolve().parent.parent / "docs"
PAGE, DOCUMENT = DOCS / "api.md", DOCS / "openapi.json"


def main() -> int:
    """Write both."""
    openapi = describe()
    for file, text in ((DOCUMENT, document(openapi)), (PAGE, page(openapi))):
        file.write_text(text)
        print(f"wrote {file}")
    return 0


def document(openapi: dict[str, Any]) -> str:
    """Return the description as it belongs in docs/openapi.json."""
    return json.dumps(openapi, ensure_ascii=False, indent=2) + "\n"


def page(openapi: dict[str, Any]) -> str:
    """Return the page as it belongs in docs/api.md."""
    return "\n".join(_lines(openapi)) + "\n"


def describe() -> dict[str, Any]:
    """Return the OpenAPI description; nothing is started or connected for it."""
    with tempfile.TemporaryDirectory() as folder:
        parts = build_runtime(Settings(data_dir=Path(folder)), database_url="postgresql://nowhere", engine_children=1)
        return asyncio.run(_ask(create_app(parts, Notifications(parts.database))))


async def _ask(app: ASGIApp) -> dict[str, Any]:
    """Asked as a client asks, without a socket."""
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://pilothouse") as http:
        answer: dict[str, Any] = (await http.get(OPENAPI_PATH)).json()
    return answer


def _lines(openapi: dict[str, Any]) -> Iterator[str]:
    yield "# API reference"
    yield ""
    yield "<!-- Written by `make docs` from the server's own description; a test compares the two. -->"
    yield ""
    yield from openapi["info"]["description"].splitlines()
    yield ""
    yield "The server shows this page at `/api/v1/docs` and the OpenAPI description at `/api/v1/openapi.json`, both"
    yield "without credentials."
    yield ""
    yield "## Errors"
    yield ""
    yield "```json"
    yield '{"errorCode": "CCE.01404001", "errorMessage": "…", "error_code": "CCE.01404001", "error_msg": "…"}'
    yield "```"
    yield ""
    yield "| status | code | when |"
    yield "|---|---|---|"
    for status, code, when in statuses():
        yield f"| {status} | `{code}` | {when} |"
    for section in sections(openapi):
        yield ""
        yield f"## {section.name.capitalize()}"
        for operation in section.operations:
            yield from _operation(operation)


def _operation(operation: Operation) -> Iterator[str]:
    yield ""
    yield f"### `{operation.method} {operation.path}`"
    yield ""
    yield from operation.text.splitlines()
    if operation.public:
        yield ""
        yield "Needs no credentials."
    yield from _table("Parameters", "", operation.parameters)
    yield from _table("Body", operation.takes_text, operation.takes)
    if operation.answers:
        many = ", a list of" if operation.answers_list else ""
        yield from _table(f"Answer {operation.status}{many}", operation.answers_text, operation.answers)
    else:
        yield ""
        yield f"Answer {operation.status}."


def _table(title: str, text: str, fields: list[Field]) -> Iterator[str]:
    if not fields:
        return
    yield ""
    yield f"{title}: {' '.join(text.split())}".rstrip(": ") + (":" if not text else "")
    yield ""
    yield "| name | type | |"
    yield "|---|---|---|"
    for field in fields:
        needed = "" if field.required else ", optional"
        yield f"| `{field.name}` | {field.type}{needed} | {' '.join(field.text.split())} |".replace("|  |", "| |")


if __name__ == "__main__":
    sys.exit(main())
