"""What a command makes of a server's refusal: its exit status is that of the reason, whatever the text."""

import asyncio
from pathlib import Path
from typing import Any

import orjson
import pytest

from pilothouse.cli.client import Client, Credentials
from pilothouse.cli.exits import ExitStatus, exit_status
from pilothouse.errors import InvalidArgument, PilothouseError, PlannedReleaseMoved, QuotaExceeded
from pilothouse.http.errors import error_response
from tests.support.fake_api_servers import peer

TYPED = "values[0] (--set): failed parsing --set data: key a has no value"


async def refused(status: int, body: bytes, folder: Path) -> Any:
    """Return the error of a command whose request is answered so."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 %d x\r\ncontent-length: %d\r\nconnection: close\r\n\r\n" % (status, len(body)))
        writer.write(body)
        await writer.drain()

    async with peer(answer, folder, tls=False) as port:
        client = Client(f"http://127.0.0.1:{port}", credentials=Credentials(token="t"))
        with pytest.raises(PilothouseError) as caught:
            await asyncio.to_thread(client.call, "GET", "/api/v1/releases")
    return caught.value


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidArgument("whatever words it has"), ExitStatus.USAGE),
        (QuotaExceeded("values[0] (--set): of the same code and status"), ExitStatus.FAILED),
        (PlannedReleaseMoved("state: of another status"), ExitStatus.FAILED),
    ],
)
async def test_the_status_is_that_of_the_reason(error: PilothouseError, status: ExitStatus, tmp_path: Path):
    answer = error_response(error, native=True)

    assert exit_status(await refused(answer.status_code, bytes(answer.body), tmp_path)) is status


async def test_an_older_server_gives_no_reason_and_has_refused_it(tmp_path: Path):
    body = orjson.dumps({"errorCode": "CCE.01400001", "errorMessage": TYPED})
    error = await refused(400, body, tmp_path)

    assert (exit_status(error), error.reason, "--set" in str(error)) == (ExitStatus.FAILED, "", True)
