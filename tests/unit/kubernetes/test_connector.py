"""Connections that are given up."""

import asyncio
import socket
import ssl
import tempfile

import uvloop

from pilothouse.kubernetes.connector import new_session
from tests.support.fake_api_servers import certificate


def test_a_peer_that_goes_on_sending_is_broken_off():
    uvloop.run(_give_up())  # the loop of the processes; asyncio's own breaks off by itself


async def _give_up() -> None:
    trusting = ssl.create_default_context(cadata=certificate()[0].decode())
    with socket.create_server(("127.0.0.1", 0)) as listener:
        sending = asyncio.create_task(asyncio.to_thread(_send_on, listener))
        async with new_session(trusting) as http:
            url = f"https://127.0.0.1:{listener.getsockname()[1]}/"
            answer = await http.get(url, server_hostname="localhost")
            await answer.content.readexactly(65536)
            answer.close()
            async with asyncio.timeout(20):  # an orderly end takes 30 s
                await sending


def _send_on(listener: socket.socket) -> None:
    """Answer without end, whatever the client says, until the connection breaks."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(b"".join(certificate()))
        file.flush()
        context.load_cert_chain(file.name)
    accepted, _ = listener.accept()
    with accepted, context.wrap_socket(accepted, server_side=True) as tls:
        tls.recv(65536)
        tls.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        try:
            while True:
                tls.sendall(bytes(65536))
        except OSError:
            return
