"""The encrypted listener: the vendor's SDK and our command line over it, and what it refuses."""

import contextlib
import os
import socket
import ssl
import subprocess
import sys
import warnings
from urllib.parse import urlsplit

import httpx2
import pytest
from huaweicloudsdkcce.v3 import CceClient, ListChartsRequest
from huaweicloudsdkcore.auth.credentials import BasicCredentials, Credentials
from huaweicloudsdkcore.exceptions.exceptions import SslHandShakeException
from huaweicloudsdkcore.http.http_config import HttpConfig
from huaweicloudsdkcore.region.region import Region

from tests.support.servers import RunningServer


def sdk(server: RunningServer, ca: str | None) -> CceClient:
    config = HttpConfig.get_default_config()
    config.ssl_ca_cert = ca
    config.retry_times = 0
    Credentials._CACHE = {}
    return (
        CceClient.new_builder()
        .with_http_config(config)
        .with_credentials(BasicCredentials(server.access_key, server.secret_key).with_iam_endpoint(server.tls_url))
        .with_region(Region("cn-north-4", server.tls_url))
        .build()
    )


def connect(server: RunningServer, context: ssl.SSLContext, *, name: str = "127.0.0.1") -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", urlsplit(server.tls_url).port or 0), timeout=10)
    with contextlib.ExitStack() as stack:
        stack.callback(plain.close)
        secure = context.wrap_socket(plain, server_hostname=name)
        stack.pop_all()
    return secure


def trusting(server: RunningServer) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=server.ca)


def test_the_vendors_sdk_works_over_tls_project_look_up_included(server: RunningServer):
    charts = sdk(server, str(server.ca)).list_charts(ListChartsRequest())
    assert charts.status_code == 200


def test_the_vendors_sdk_refuses_the_server_without_its_authority(server: RunningServer):
    with pytest.raises(SslHandShakeException):
        sdk(server, None).list_charts(ListChartsRequest())


@pytest.mark.parametrize("name", ["localhost", "127.0.0.1", "::1"])
def test_the_certificate_is_good_for_every_name_of_this_machine(server: RunningServer, name: str):
    context = trusting(server)
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    with connect(server, context, name=name) as secure:
        assert secure.version() == "TLSv1.3"


def test_another_name_is_refused_by_the_client(server: RunningServer):
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        connect(server, trusting(server), name="pilothouse.example")


def old_client(server: RunningServer, newest: ssl.TLSVersion) -> ssl.SSLContext:
    context = trusting(server)
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python warns of what is refused here
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = newest
    return context


def test_tls_1_1_is_refused_by_the_server(server: RunningServer):
    with connect(server, old_client(server, ssl.TLSVersion.TLSv1_2)) as secure:
        assert secure.version() == "TLSv1.2"
    with pytest.raises(ssl.SSLError):
        connect(server, old_client(server, ssl.TLSVersion.TLSv1_1))


def test_tls_1_2_needs_forward_secrecy_and_authenticated_encryption(server: RunningServer):
    context = trusting(server)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with connect(server, context) as secure:
        chosen = secure.cipher()
        assert chosen is not None
        assert chosen[0].startswith("ECDHE-ECDSA-")
    context.set_ciphers("ECDHE-ECDSA-AES256-SHA")
    with pytest.raises(ssl.SSLError):
        connect(server, context)


def test_plain_http_on_the_tls_port_ends_at_once_and_harms_nobody(server: RunningServer):
    address = urlsplit(server.tls_url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as plain:
        plain.sendall(b"GET /api/v1/health HTTP/1.1\r\nHost: x\r\n\r\n")
        with contextlib.suppress(ConnectionResetError):
            while plain.recv(4096):
                pass
    with httpx2.Client(verify=trusting(server), trust_env=False) as http:
        assert http.get(server.tls_url + "/api/v1/health").status_code == 200


def test_what_is_no_http_gets_the_gateways_error_over_tls_too(server: RunningServer):
    with connect(server, trusting(server)) as secure:
        secure.sendall(b"\x00\x01 nonsense\r\n\r\n")
        answer = b""
        with contextlib.suppress(ssl.SSLEOFError):
            while piece := secure.recv(4096):
                answer += piece
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert b'"errorCode"' in answer


def cli(server: RunningServer, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "pilothouse", "cluster", "list", "--output", "json"],
        env={
            "PATH": os.environ["PATH"],
            "PILOTHOUSE_URL": server.tls_url,
            "CLOUD_SDK_AK": server.access_key,
            "CLOUD_SDK_SK": server.secret_key,
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_command_line_speaks_tls_with_the_authority(server: RunningServer):
    done = cli(server, PILOTHOUSE_CA=str(server.ca))
    assert done.returncode == 0, done.stderr
    assert server.cluster_id in done.stdout


def test_the_command_line_says_what_is_missing_without_the_authority(server: RunningServer):
    done = cli(server)
    assert done.returncode == 3
    assert "--ca" in done.stderr


def test_the_command_line_names_an_authority_file_that_is_none(server: RunningServer):
    done = cli(server, PILOTHOUSE_CA=str(server.data_dir / "master.key"))
    assert done.returncode == 2
    assert "master.key" in done.stderr
