"""The local certificate authority: made once, its server certificate renewed in time."""

import contextlib
import datetime as dt
import ipaddress
import ssl
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pilothouse.auth.certificates import CertificateFiles, ensure_certificate, is_constrained, read_certificate
from pilothouse.errors import InvalidCertificate

#: Today: what OpenSSL verifies, it verifies now.
NOW = dt.datetime.now(dt.UTC).replace(microsecond=0)


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


def test_names_that_the_authority_covers_mean_another_certificate_under_it(tmp_path: Path):
    ensure(tmp_path, "pilothouse.example", "bücher.example", "10.1.2.3")
    authority = (tmp_path / "ca.pem").read_bytes()
    files = ensure(tmp_path, "api.pilothouse.example", "xn--bcher-kva.example", "127.0.0.7")
    assert names_of(files) >= {"api.pilothouse.example", "xn--bcher-kva.example", "127.0.0.7"}
    assert (tmp_path / "ca.pem").read_bytes() == authority


@pytest.mark.parametrize("name", ["other.example", "evilpilothouse.example", "10.1.2.4", "fd00::1"])
def test_a_name_that_the_authority_does_not_cover_means_a_new_one(tmp_path: Path, name: str):
    ensure(tmp_path, "pilothouse.example", "10.1.2.3")
    before = (tmp_path / "ca.pem").read_bytes()
    files = ensure(tmp_path, "pilothouse.example", "10.1.2.3", name)
    assert (tmp_path / "ca.pem").read_bytes() != before
    assert (tmp_path / "ca-previous.pem").read_bytes() == before
    verify(tmp_path, read_certificate(files.certificate), name)


def test_a_host_name_that_changes_by_itself_makes_no_new_authority(tmp_path: Path):
    def start(host: str) -> set[str]:
        return names_of(
            ensure_certificate(tmp_path, names=["pilothouse.example"], also=[host], renew_days=30, clock=lambda: NOW)
        )

    asked = {"localhost", "127.0.0.1", "::1", "pilothouse.example"}
    assert start("container-1") == {*asked, "container-1"}
    before = (tmp_path / "ca.pem").read_bytes()
    assert start("container-2") == asked
    assert (tmp_path / "ca.pem").read_bytes() == before


def test_an_authority_without_limits_of_an_earlier_version_stays(tmp_path: Path):
    tree = tmp_path / "tls"
    tree.mkdir()
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = authority_of(key)
    (tree / "ca.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (tree / "ca.key").write_bytes(key.private_bytes(*form))
    files = ensure(tree, "any.example")
    assert not is_constrained(read_certificate(tree / "ca.pem"))
    read_certificate(files.certificate).verify_directly_issued_by(certificate)


def test_a_stolen_key_of_the_authority_is_good_for_this_server_only(tmp_path: Path):
    """OpenSSL, which most clients are built on, refuses what the key signs for anybody else."""
    ensure(tmp_path, "pilothouse.example")
    assert is_constrained(read_certificate(tmp_path / "ca.pem"))
    verify(tmp_path, forged(tmp_path, "pilothouse.example"), "pilothouse.example")
    for name in ("bank.example", "8.8.8.8"):
        with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree violation"):
            verify(tmp_path, forged(tmp_path, name), name)


def authority_of(key: ec.EllipticCurvePrivateKey) -> x509.Certificate:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Pilothouse local authority")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    builder = builder.serial_number(1).not_valid_before(NOW - dt.timedelta(days=1))
    builder = builder.not_valid_after(NOW + dt.timedelta(days=999))
    return builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True).sign(
        key, hashes.SHA256()
    )


def forged(folder: Path, name: str) -> x509.Certificate:
    """Return what a thief of ``ca.key`` signs: the server's own certificate with another name in it."""
    issuer = read_certificate(folder / "ca.pem")
    key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    server = read_certificate(folder / "server.pem")
    builder = x509.CertificateBuilder().subject_name(server.subject).issuer_name(issuer.subject)
    builder = builder.public_key(server.public_key()).serial_number(7)
    alternative: x509.GeneralName
    try:
        alternative = x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        alternative = x509.DNSName(name)
    builder = builder.not_valid_before(server.not_valid_before_utc).not_valid_after(server.not_valid_after_utc)
    for extension in server.extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            builder = builder.add_extension(x509.SubjectAlternativeName([alternative]), critical=False)
        else:
            builder = builder.add_extension(extension.value, critical=extension.critical)
    return builder.sign(key, hashes.SHA256())


def verify(folder: Path, certificate: x509.Certificate, name: str) -> None:
    """Do a TLS handshake in memory, by a client that trusts the authority's file, at the time of the tests."""
    pem = folder / "shown.pem"
    pem.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    there, here = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    there.load_cert_chain(pem, folder / "server.key")
    here.load_verify_locations(folder / "ca.pem")
    a, b = ssl.MemoryBIO(), ssl.MemoryBIO()
    client, server = here.wrap_bio(a, b, server_hostname=name), there.wrap_bio(b, a, server_side=True)
    for _ in range(4):
        for side in (client, server):
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()


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
    with pytest.raises(InvalidCertificate, match=r"ca\.key contains no PEM private key"):
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
