"""Reading a whole body: counted, hashed, kept, given again."""

import asyncio
import hashlib
from collections.abc import Iterable
from contextlib import closing
from typing import Any

import pytest
from starlette.responses import Response
from starlette.types import Message, Receive

from pilothouse.http.gateway_errors import GatewayError
from pilothouse.http.middleware.body import ClientGoneError, Incoming, Pace, check_length, read_body, refuse_unread


def part(body: bytes, *, more: bool) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


GONE: Message = {"type": "http.disconnect"}


def receiver(messages: Iterable[Message], *, taken: list[Message] | None = None) -> Receive:
    """Return a server that has these messages to give, and then waits for ever."""
    waiting = iter(messages)

    async def receive() -> Message:
        for message in waiting:
            if taken is not None:
                taken.append(message)
            return message
        await asyncio.Event().wait()
        raise AssertionError

    return receive


def scope(*headers: tuple[bytes, bytes]) -> dict[str, Any]:
    return {"type": "http", "method": "POST", "path": "/", "headers": list(headers)}


CHUNKED = scope((b"transfer-encoding", b"chunked"))


async def content(receive: Receive) -> tuple[bytes, int]:
    """Return what an application reads, and in how many pieces."""
    pieces = []
    while True:
        message = await receive()
        assert message["type"] == "http.request"
        pieces.append(message["body"])
        if not message["more_body"]:
            return b"".join(pieces), len(pieces)


class TestReading:
    @pytest.mark.parametrize(
        "parts",
        [[b""], [b"{}"], [b"a", b"", b"bc"], [b"x" * 100_000, b"y"], [bytes([n % 251]) for n in range(3000)]],
        ids=["none", "one", "with an empty part", "large", "many small"],
    )
    @pytest.mark.parametrize("memory_bytes", [10, 1024 * 1024], ids=["on disk", "in memory"])
    async def test_the_application_reads_what_was_sent(self, parts, memory_bytes):
        sent = [part(piece, more=index < len(parts) - 1) for index, piece in enumerate(parts)]
        whole = b"".join(parts)

        with closing(await read_body(receiver(sent), limit=200_000, memory_bytes=memory_bytes)) as body:
            assert (body.size, body.digest) == (len(whole), hashlib.sha256(whole).hexdigest())
            assert await content(body.replay(receiver([]))) == (whole, max(1, -(-len(whole) // 65536)))

    async def test_a_message_without_optional_keys_ends_it(self):
        with closing(await read_body(receiver([{"type": "http.request"}]), limit=10, memory_bytes=10)) as body:
            assert body.size == 0

    async def test_after_the_body_the_application_hears_the_server(self):
        with closing(await read_body(receiver([part(b"{}", more=False)]), limit=10, memory_bytes=10)) as body:
            receive = body.replay(receiver([GONE]))
            await content(receive)

            assert await receive() == GONE

    async def test_it_can_be_read_twice(self):
        with closing(await read_body(receiver([part(b"{}", more=False)]), limit=10, memory_bytes=10)) as body:
            assert await content(body.replay(receiver([]))) == (b"{}", 1)
            assert await content(body.replay(receiver([]))) == (b"{}", 1)

    async def test_the_limit_itself_is_allowed(self):
        with closing(await read_body(receiver([part(b"x" * 10, more=False)]), limit=10, memory_bytes=100)) as body:
            assert body.size == 10

    async def test_one_byte_more_is_refused_without_reading_on(self):
        taken: list[Message] = []
        parts = [part(b"x" * 6, more=True) for _ in range(100)]

        with pytest.raises(GatewayError) as caught:
            await read_body(receiver(parts, taken=taken), limit=10, memory_bytes=100)

        assert (caught.value.code.status, caught.value.detail) == (413, "the limit is 10 bytes")
        assert len(taken) == 2

    async def test_a_client_that_leaves(self):
        with pytest.raises(ClientGoneError):
            await read_body(receiver([part(b"x", more=True), GONE]), limit=10, memory_bytes=10)

    async def test_a_client_that_stalls(self):
        with pytest.raises(GatewayError) as caught:
            await read_body(receiver([part(b"x", more=True)]), limit=10, memory_bytes=10, pace=Pace(0.01))

        assert caught.value.code.status == 408

    async def test_another_hash(self):
        sent = receiver([part(b"", more=False)])

        with closing(await read_body(sent, limit=1, memory_bytes=1, new_digest=hashlib.sha512)) as body:
            assert body.digest == hashlib.sha512(b"").hexdigest()


class TestLength:
    def test_over_the_limit_is_refused_before_reading(self):
        check_length(scope((b"content-length", b"10")), limit=10)
        with pytest.raises(GatewayError) as caught:
            check_length(scope((b"content-length", b"11")), limit=10)
        assert caught.value.code.status == 413

    @pytest.mark.parametrize("value", [b"", b"-1", b"+1", b"1_0", b"0x1", b" 1", b"9" * 5000, "\uff11".encode()])
    def test_what_is_no_number_is_refused(self, value):
        with pytest.raises(GatewayError) as caught:
            check_length(scope((b"content-length", value)), limit=10)
        assert caught.value.code.status == 400

    def test_a_length_beside_chunks_is_refused(self):
        with pytest.raises(GatewayError) as caught:
            check_length(scope((b"content-length", b"2"), (b"transfer-encoding", b"chunked")), limit=10)
        assert caught.value.code.status == 400

    @pytest.mark.parametrize(
        ("headers", "expected"),
        [
            ([], False),
            ([(b"content-length", b"0")], False),
            ([(b"content-length", b"2")], True),
            ([(b"transfer-encoding", b"chunked")], True),
        ],
    )
    async def test_which_requests_bring_a_body(self, headers, expected):
        incoming = Incoming(scope(*headers), receiver([part(b"x", more=True), part(b"y", more=False)]))

        pending = [incoming.pending]
        for _ in range(2):
            await incoming()
            pending.append(incoming.pending)
        assert pending == [expected, expected, False]


class TestRefusalWhileTheBodyComes:
    async def refuse(self, receive: Receive, **limits: Any) -> list[Message]:
        sent: list[Message] = []

        async def send(message: Message) -> None:
            sent.append(message)

        await refuse_unread(Response(b"no", status_code=413), CHUNKED, Incoming(CHUNKED, receive), send, **limits)
        return sent

    async def test_the_answer_is_whole_before_the_rest_is_thrown_away(self):
        order: list[str] = []

        async def receive() -> Message:
            order.append("receive")
            return part(b"x", more=order.count("receive") < 3)

        async def send(message: Message) -> None:
            order.append(message["type"] + (" end" if message.get("more_body") is False else ""))

        await refuse_unread(Response(b"no", status_code=413), CHUNKED, Incoming(CHUNKED, receive), send)

        begin = ["http.response.start", "http.response.body"]
        assert order == [*begin, "receive", "receive", "receive", "http.response.body end"]

    async def test_the_connection_closes(self):
        sent = await self.refuse(receiver([part(b"x", more=False)]))

        assert (b"connection", b"close") in sent[0]["headers"]
        assert [message.get("body") for message in sent] == [None, b"no", b""]

    async def test_it_ends_when_the_client_leaves(self):
        assert len(await self.refuse(receiver([part(b"x", more=True), GONE]))) == 3

    async def test_it_ends_after_a_while(self):
        assert len(await self.refuse(receiver([part(b"x", more=True)]), linger_seconds=0.01)) == 3

    async def test_it_ends_after_enough_bytes(self):
        taken: list[Message] = []
        endless = (part(b"x" * 1024 * 1024, more=True) for _ in range(1000))

        await self.refuse(receiver(endless, taken=taken))

        assert len(taken) == 64
