"""Where the server listens, what it refuses to send in the clear, and how a new certificate takes effect."""

import asyncio
import contextlib
import datetime as dt
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn

from pilothouse.auth.certificates import CertificateFiles, ensure_certificate
from pilothouse.errors import InvalidCertificate, InvalidSettings
from pilothouse.http.endpoints import Endpoint, endpoints
from pilothouse.http.middleware import stack
from pilothouse.http.server import GatewayServer, TlsContext, certificate_files
from pilothouse.settings import Settings, TlsSettings
from tests.support.servers import free_port


def settings(*, host: str = "127.0.0.1", port: int = 8440, data_dir: Path = Path("/nowhere"), **tls: Any) -> Settings:
    return Settings(host=host, port=port, data_dir=data_dir, tls=TlsSettings(**tls))


def test_both_listeners_are_on_loopback_unless_told_otherwise():
    assert [one.url for one in endpoints(settings())] == ["http://127.0.0.1:8440", "https://127.0.0.1:8443"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.7", "2001:db8::7"])
def test_plain_http_stays_on_loopback_when_the_host_is_not(host: str):
    assert endpoints(settings(host=host)) == [Endpoint("http", "127.0.0.1", 8440), Endpoint("https", host, 8443)]


def test_plain_http_goes_where_a_setting_says_it_may():
    found = endpoints(settings(host="0.0.0.0", plain_http=True))
    assert found == [Endpoint("http", "0.0.0.0", 8440), Endpoint("https", "0.0.0.0", 8443)]


def test_an_outside_address_without_tls_is_refused_with_both_ways_out():
    with pytest.raises(InvalidSettings, match=r"PILOTHOUSE_TLS__PORT, or set PILOTHOUSE_TLS__PLAIN_HTTP=true"):
        endpoints(Settings(host="0.0.0.0", tls=TlsSettings(port=0)))


def test_a_port_of_0_turns_a_listener_off_but_not_both():
    assert [one.scheme for one in endpoints(Settings(port=0))] == ["https"]
    assert [one.scheme for one in endpoints(Settings(tls=TlsSettings(port=0)))] == ["http"]
    with pytest.raises(InvalidSettings, match="nothing would listen"):
        endpoints(Settings(port=0, tls=TlsSettings(port=0)))


def test_names_that_mean_this_machine_alone_are_loopback():
    assert endpoints(settings(host="localhost"))[0] == Endpoint("http", "localhost", 8440)
    assert endpoints(settings(host="::1"))[0].url == "http://[::1]:8440"


def test_a_host_that_does_not_exist_is_named():
    with pytest.raises(InvalidSettings, match=r"PILOTHOUSE_HOST=nowhere\.invalid"):
        endpoints(settings(host="nowhere.invalid"))


def test_a_certificate_without_its_key_is_refused():
    with pytest.raises(InvalidSettings, match="PILOTHOUSE_TLS__KEY both"):
        certificate_files(settings(certificate=Path("/server.pem")))


def test_given_files_are_used_and_no_authority_is_made(tmp_path: Path):
    given = settings(certificate=tmp_path / "a.pem", key=tmp_path / "a.key", data_dir=tmp_path / "data")
    assert certificate_files(given) == CertificateFiles(tmp_path / "a.pem", tmp_path / "a.key")
    assert not (tmp_path / "data").exists()


def test_a_local_certificate_names_the_host_and_the_further_names(tmp_path: Path):
    files = certificate_files(settings(host="192.0.2.7", names="ship.example, 192.0.2.8", data_dir=tmp_path))
    text = ssl._ssl._test_decode_cert(str(files.certificate))  # type: ignore[attr-defined]
    assert {name for _, name in text["subjectAltName"]} >= {"192.0.2.7", "ship.example", "192.0.2.8"}


def made(folder: Path) -> CertificateFiles:
    return ensure_certificate(folder, names=[], renew_days=30, clock=lambda: dt.datetime.now(dt.UTC))


def test_files_that_do_not_fit_together_are_refused_by_name(tmp_path: Path):
    one, other = made(tmp_path / "one"), made(tmp_path / "other")
    with pytest.raises(InvalidCertificate, match=r"server\.pem.*key values mismatch"):
        TlsContext(lambda: CertificateFiles(one.certificate, other.key))


def test_a_missing_certificate_is_refused_by_name(tmp_path: Path):
    with pytest.raises(InvalidCertificate, match=r"cannot read the TLS file .*absent\.pem"):
        TlsContext(lambda: CertificateFiles(tmp_path / "absent.pem", tmp_path / "absent.key"))


def test_ciphers_that_do_not_exist_are_refused(tmp_path: Path):
    files = made(tmp_path)
    with pytest.raises(InvalidSettings, match="PILOTHOUSE_TLS__CIPHERS=ROT13"):
        TlsContext(lambda: files, ciphers="ROT13")


class Application:
    """Counts its lifespans and answers with the scheme it was called by."""

    def __init__(self) -> None:
        self.events: list[str] = []

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            for event in ("startup", "shutdown"):
                await receive()
                self.events.append(event)
                await send({"type": f"lifespan.{event}.complete"})
            return
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": scope["scheme"].encode()})


@contextlib.asynccontextmanager
async def serving(application: Application, tls: TlsContext) -> AsyncIterator[tuple[str, str]]:
    listeners = [Endpoint("http", "127.0.0.1", free_port()), Endpoint("https", "127.0.0.1", free_port())]
    config = uvicorn.Config(application, log_config=None, **stack.server_options(Settings()))
    server = GatewayServer(config, listeners, tls=tls)
    task = asyncio.create_task(server._serve())
    try:
        while not server.started or len(server.servers) < len(listeners):  # noqa: ASYNC110 (uvicorn has no event)
            await asyncio.sleep(0.01)
        yield listeners[0].url, listeners[1].url
    finally:
        server.should_exit = True
        await task


async def ask(url: str, authority: Path | None) -> str:
    trust = ssl.create_default_context(cafile=authority)
    async with httpx2.AsyncClient(verify=trust, trust_env=False) as http:
        return (await http.get(url)).text


async def test_both_doors_lead_to_one_application_with_one_lifespan(tmp_path: Path):
    application, files = Application(), made(tmp_path)
    async with serving(application, TlsContext(lambda: files)) as (plain, secure):
        assert await ask(plain, None) == "http"
        assert await ask(secure, files.authority) == "https"
    assert application.events == ["startup", "shutdown"]


async def test_a_new_certificate_serves_new_connections_without_a_restart(tmp_path: Path):
    files, new = made(tmp_path / "old"), made(tmp_path / "new")
    tls = TlsContext(lambda: files)
    async with serving(Application(), tls) as (_, secure):
        new.key.replace(files.key)
        tls.refresh()  # half of the exchange: the pair does not fit, and the old one goes on
        assert await ask(secure, files.authority) == "https"
        new.certificate.replace(files.certificate)
        tls.refresh()
        assert await ask(secure, new.authority) == "https"
        with pytest.raises(httpx2.ConnectError):
            await ask(secure, files.authority)


async def test_a_port_in_use_is_said_with_the_setting_and_the_application_never_starts(tmp_path: Path):
    application, files = Application(), made(tmp_path)
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        taken = Endpoint("https", "127.0.0.1", other.getsockname()[1])
        config = uvicorn.Config(application, log_config=None, **stack.server_options(Settings()))
        with pytest.raises(InvalidSettings, match=r"PILOTHOUSE_TLS__PORT"):
            await GatewayServer(config, [taken], tls=TlsContext(lambda: files))._serve()
    assert application.events == []
