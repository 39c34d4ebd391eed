"""The local certificate authority: made once, its server certificate renewed in time."""

import datetime as dt
import ssl
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509

from pilothouse.auth.certificates import CertificateFiles, ensure_certificate, read_certificate
from pilothouse.errors import InvalidCertificate

NOW = dt.datetime(2031, 5, 1, tzinfo=dt.UTC)


def ensure(folder: Path, *names: str, now: dt.datetime = NOW) -> CertificateFiles:
    return ensure_certificate(folder, names=names, renew_days=30, clock=lambda: now)


def names_of(files: CertificateFiles) -> set[str]:
    extension = read_certificate(files.certificate).extensions.get_extension_for_class(x509.SubjectAlternativeName)
    return {str(name.value) for name in extension.value}


def test_the_first_start_makes_an_authority_and_a_certificate_of_it(tmp_path: Path):
    files = ensure(tmp_path / "tls")
    assert files.authority == tmp_path / "tls" / "ca.pem"
    authority, certificate = read_certificate(files.authority), read_certificate(files.certificate)
    certificate.verify_directly_issued_by(authority)
    assert names_of(files) == {"localhost", "127.0.0.1", "::1"}
    assert authority.not_valid_after_utc > NOW + dt.timedelta(days=3600)
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(files.certificate, files.key)


def test_private_keys_are_for_their_owner_alone(tmp_path: Path):
    ensure(tmp_path)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes["ca.key"] == modes["server.key"] == 0o600
    assert modes["ca.pem"] & 0o444 == 0o444


def test_a_later_start_keeps_both(tmp_path: Path):
    ensure(tmp_path, "pilothouse.example")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    ensure(tmp_path, "pilothouse.example", now=NOW + dt.timedelta(days=300))
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_certificate_that_runs_out_soon_is_renewed_under_the_same_authority(tmp_path: Path):
    first = read_certificate(ensure(tmp_path).certificate)
    authority = (tmp_path / "ca.pem").read_bytes()
    later = first.not_valid_after_utc - dt.timedelta(days=29)
    second = read_certificate(ensure(tmp_path, now=later).certificate)
    assert second.not_valid_after_utc > later + dt.timedelta(days=365)
    assert (tmp_path / "ca.pem").read_bytes() == authority


def test_other_names_mean_another_certificate_under_the_same_authority(tmp_path: Path):
    ensure(tmp_path)
    authority = (tmp_path / "ca.pem").read_bytes()
    files = ensure(tmp_path, "pilothouse.example", "bücher.example", "10.1.2.3")
    assert names_of(files) >= {"pilothouse.example", "xn--bcher-kva.example", "10.1.2.3"}
    assert (tmp_path / "ca.pem").read_bytes() == authority


def test_a_damaged_server_certificate_is_issued_again(tmp_path: Path):
    files = ensure(tmp_path)
    files.certificate.write_text("nonsense")
    read_certificate(ensure(tmp_path).certificate)


def test_a_certificate_never_outlives_its_authority_and_then_both_are_new(tmp_path: Path):
    authority = read_certificate(tmp_path / "ca.pem") if ensure(tmp_path) else None
    assert authority is not None
    late = authority.not_valid_after_utc - dt.timedelta(days=10)
    last = read_certificate(ensure(tmp_path, now=late).certificate)
    assert last.not_valid_after_utc == authority.not_valid_after_utc
    serial = last.serial_number
    assert read_certificate(ensure(tmp_path, now=late).certificate).serial_number == serial
    ensure(tmp_path, now=late + dt.timedelta(days=11))
    assert read_certificate(tmp_path / "ca.pem").serial_number != authority.serial_number


def test_a_damaged_authority_is_an_error_because_clients_trust_it(tmp_path: Path):
    ensure(tmp_path)
    (tmp_path / "ca.key").write_text("nonsense")
    with pytest.raises(InvalidCertificate, match=r"ca\.key holds no private key"):
        ensure(tmp_path)


@pytest.mark.parametrize("name", ["", "two words", "a..b", "x" * 64 + ".example"])
def test_a_name_that_is_none_is_refused_by_its_text(tmp_path: Path, name: str):
    with pytest.raises(InvalidCertificate, match="PILOTHOUSE_TLS__NAMES"):
        ensure(tmp_path, name)


def test_starts_at_the_same_moment_end_with_one_authority(tmp_path: Path):
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: ensure(tmp_path), range(8)))
    assert len(set(found)) == 1
    read_certificate(found[0].certificate).verify_directly_issued_by(read_certificate(tmp_path / "ca.pem"))
