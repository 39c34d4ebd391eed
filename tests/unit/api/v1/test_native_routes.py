"""The order of a native route: checks before the body, and the body within its limits, before anything is done."""

import asyncio
from typing import Any, ClassVar

import httpx2
import pytest
from fastapi import FastAPI, Request

from pilothouse.api.v1.dependencies import Check
from pilothouse.api.v1.models import Body, Limit
from pilothouse.api.v1.routing import native_router
from pilothouse.errors import Forbidden, InvalidArgument, PilothouseError
from pilothouse.http.errors import handle
from pilothouse.http.json_bodies import JsonLimits

DEFAULT = "as it was"
router = native_router("/things", tag="things")


class CreateThing(Body):
    limits: ClassVar[JsonLimits] = JsonLimits(size=100_000, values=10, levels=3)

    name: str = DEFAULT
    data: dict[str, Any] | None = None


async def _refuse_strangers(request: Request) -> None:
    if "stranger" in request.headers:
        raise Forbidden("strangers may not")


@router.post("/{number}", dependencies=[Check(_refuse_strangers)])
async def create_thing(number: int, body: CreateThing, limit: Limit = 100) -> dict[str, Any]:
    return {"number": number, "name": body.name, "limit": limit}


@router.put("", dependencies=[Check(_refuse_strangers)])
async def change_thing(body: CreateThing = CreateThing()) -> dict[str, Any]:  # noqa: B008 - never changed
    return {"name": body.name}


async def ask(method: str, path: str, content: bytes | None = None, **headers: str) -> tuple[int, dict[str, Any]]:
    """Return status and answer; a body of None fails the test that reads it."""

    async def pieces() -> Any:
        assert content is not None, "the body was read"
        yield content

    app = FastAPI()
    app.include_router(router)
    app.add_exception_handler(PilothouseError, handle)
    headers = {name.replace("_", "-"): value for name, value in headers.items()}
    transport = httpx2.ASGITransport(app=app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://native") as http:
        answer = await http.request(method, path, content=pieces(), headers=headers)
    return answer.status_code, answer.json()


async def test_who_may_not_is_refused_before_the_body_is_read():
    status, answer = await ask("POST", "/things/1", None, stranger="yes")

    assert (status, answer["errorCode"]) == (403, "CCE.01403001")


async def test_a_nul_in_the_path_is_refused_before_a_check_could_look_it_up():
    status, answer = await ask("POST", "/things/%00", None, stranger="yes")

    assert (status, answer["errorCode"]) == (400, "CCE.01400001")
    assert answer["errorMessage"].startswith("number:")


@pytest.mark.parametrize("content_type", ["application/json", "Application/JSON ; charset=utf-8", None])
async def test_a_body_is_json_of_whatever_name_json_has(content_type: str | None):
    headers = {} if content_type is None else {"content_type": content_type}

    assert await ask("POST", "/things/1?limit=", b'{"name": "x"}', **headers) == (
        200,
        {"number": 1, "name": "x", "limit": 100},
    )


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-pem-file", "application/merge-patch+json"])
async def test_a_body_of_another_type_is_refused(content_type: str):
    status, answer = await ask("POST", "/things/1", b'{"name": "x"}', content_type=content_type)

    assert (status, answer["errorCode"]) == (400, "CCE.01400006")


@pytest.mark.parametrize("content", [b"", b" \n"])
async def test_no_body_is_the_default_where_there_is_one(content: bytes):
    assert await ask("PUT", "/things", content) == (200, {"name": DEFAULT})
    status, answer = await ask("POST", "/things/1", content)
    assert (status, answer["errorCode"]) == (400, "CCE.01400001")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b'{"name": "%s"}' % (b"x" * 100_000), (413, "body")),
        (b'{"data": {"list": [1, 2, 3, 4, 5, 6, 7, 8, 9, 10]}}', (400, "body")),
        (b'{"data": {"a": {"b": {"c": {}}}}}', (400, "data")),
        (b'{"name": 1}', (400, "name")),
        (b'{"nam": ""}', (400, "nam: unknown field; did you mean name?")),
    ],
)
async def test_the_limits_of_the_model_hold(content: bytes, expected: tuple[int, str]):
    status, answer = await ask("POST", "/things/1", content)

    assert (status, answer["errorMessage"][: len(expected[1])]) == expected


@pytest.mark.parametrize("query", ["limit=0", "limit=501", "limit=x"])
async def test_a_wrong_parameter_is_named(query: str):
    status, answer = await ask("POST", f"/things/1?{query}", b"{}")

    assert (status, answer["errorMessage"].split(":")[0]) == (400, "limit")


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return what runs beside the event loop."""
    seen: list[Any] = []
    beside = asyncio.to_thread

    async def note(function: Any, *args: Any, **options: Any) -> Any:
        seen.append(function)
        return await beside(function, *args, **options)

    monkeypatch.setattr(asyncio, "to_thread", note)
    return seen


async def test_a_large_body_is_read_beside_the_event_loop(threads: list[Any]):
    assert (await ask("POST", "/things/1", b'{"name": "x"}'))[0] == 200
    assert threads == []
    assert (await ask("POST", "/things/1", b'{"name": "%s"}' % (b"x" * 50_000)))[0] == 200
    assert len(threads) == 1


@pytest.mark.parametrize(
    ("path", "headers", "reason"),
    [
        ("/things/x", {}, "argument"),
        ("/things/1?limit=x", {}, "argument"),
        ("/things/%00", {}, "argument"),
        ("/things/1", {"content_type": "text/plain"}, ""),
        ("/things/1", {"stranger": "yes"}, ""),
    ],
)
async def test_a_refusal_says_whether_the_request_itself_is_wrong(path: str, headers: dict[str, str], reason: str):
    _, answer = await ask("POST", path, b"{}", **headers)

    assert answer["reason"] == reason


async def test_a_wrong_body_is_a_wrong_argument():
    _, answer = await ask("POST", "/things/1", b'{"name": 1}')

    assert answer["reason"] == "argument"


async def test_routes_of_the_vendor_say_no_reason():
    app = FastAPI()
    app.add_exception_handler(PilothouseError, handle)

    @app.get("/vendor")
    async def refuse() -> None:
        raise InvalidArgument("limit: none")

    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url="http://vendor") as http:
        answer = (await http.get("/vendor")).json()

    assert answer == {
        **dict.fromkeys(("errorCode", "error_code"), "CCE.01400001"),
        **dict.fromkeys(("errorMessage", "error_msg"), "limit: none"),
    }
