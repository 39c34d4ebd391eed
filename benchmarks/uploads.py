"""The largest upload: how long from its last byte to the 201, and what eight of them at once cost the API in memory."""

import asyncio
import hashlib
import re
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit

from benchmarks.figures import Figure
from benchmarks.place import Place, child_of
from pilothouse.auth.signing import SignedRequest, body_digest, sign
from tests.support.charts import build_chart
from tests.support.servers import RunningServer

BODY_BYTES = 12 * 1024 * 1024
AT_ONCE = 8
ROUNDS = 5
SETTLE_SECONDS = 0.5  # for the server to take what was sent, and to give memory back
BOUNDARY = "0123456789abcdef0123456789abcdef"


async def uploads(place: Place) -> list[Figure]:
    api = child_of(place.server.pid, "api")
    idle = _status(api, "VmRSS")
    alone = [await _upload(place.server, _form(skip_lint=True)) for _ in range(ROUNDS)]
    without = [await _growth(place.server, api, idle=idle, skip_lint=True) for _ in range(ROUNDS)]
    linted = [await _growth(place.server, api, idle=idle, skip_lint=False) for _ in range(ROUNDS)]
    return [
        Figure("12 MiB upload, last byte to 201, no lint", tuple(seconds * 1000 for seconds in alone), target=500),
        Figure(f"API memory growth, {AT_ONCE} such uploads at once", tuple(without), unit="bodies", target=3),
        Figure("the same with Helm's lint", tuple(linted), unit="bodies", target=3),
    ]


async def _growth(server: RunningServer, api: int, *, idle: int, skip_lint: bool) -> float:
    """Return the API's highest resident size during the uploads over that of the idle process, in bodies."""
    forms = [_form(skip_lint=skip_lint) for _ in range(AT_ONCE)]
    await asyncio.sleep(SETTLE_SECONDS)
    _reset_peak(api)
    await asyncio.gather(*(_upload(server, form) for form in forms))
    return (_status(api, "VmHWM") - idle) / BODY_BYTES


def _reset_peak(pid: int) -> None:
    """Set VmHWM to what is resident now; see proc(5), clear_refs."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", encoding="ascii")


def _status(pid: int, name: str) -> int:
    found = re.search(rf"{name}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) * 1024


def _form(*, skip_lint: bool) -> bytes:
    """Return a form of exactly BODY_BYTES, whose archive cannot be compressed further."""
    name = f"bench-{uuid.uuid4().hex[:10]}"
    head = "".join(
        f"--{BOUNDARY}\r\nContent-Disposition: form-data; {disposition}\r\n\r\n{text}"
        for disposition, text in (
            ('name="parameters"', f'{{"skip_lint": {str(skip_lint).lower()}}}\r\n'),
            ('name="content"; filename="bench.tgz"', ""),
        )
    ).encode()
    tail = f"\r\n--{BOUNDARY}--\r\n".encode()
    noise = hashlib.shake_256(name.encode()).digest(BODY_BYTES)
    third = BODY_BYTES // 3 - 4096
    archive = build_chart(name, files={f"noise{n}": noise[n * third : (n + 1) * third] for n in range(3)})
    # padding behind the gzip data is as good as none to every reader
    padding = BODY_BYTES - len(head) - len(archive) - len(tail)
    assert padding >= 0
    return head + archive + bytes(padding) + tail


async def _upload(server: RunningServer, form: bytes) -> float:
    """Seconds from the last byte sent to the first byte of the 201."""
    address = urlsplit(server.url)
    request = SignedRequest(
        method="POST",
        raw_path=b"/v2/charts",
        query_string=b"",
        headers=[(b"host", address.netloc.encode())],
        body_digest=await asyncio.to_thread(body_digest, form),
        body_empty=False,
    )
    signed = sign(request, access_key=server.access_key, secret_key=server.secret_key, now=datetime.now(UTC))
    headers = {
        "Host": address.netloc,
        "Content-Type": f"multipart/form-data; boundary={BOUNDARY}",
        "Content-Length": str(len(form)),
        **signed,
    }
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    try:
        head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"POST /v2/charts HTTP/1.1\r\n{head}\r\n".encode())
        for start in range(0, len(form) - 1, 65536):
            writer.write(form[start : min(start + 65536, len(form) - 1)])
            await writer.drain()
        await asyncio.sleep(SETTLE_SECONDS)
        sent = time.perf_counter()
        writer.write(form[-1:])
        status = await reader.readline()
        seconds = time.perf_counter() - sent
        assert b" 201 " in status, status + await reader.read(4096)
        return seconds
    finally:
        writer.close()
