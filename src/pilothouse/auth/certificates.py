"""The server's certificate: read from files, or issued by the installation's own certificate authority.

The authority is created once and kept, because clients trust its file; the server's certificate is issued again when it
is about to expire or its names changed. Name constraints limit an authority to the names that the server had when it
was created, and their subdomains: a stolen key can impersonate only this server. A name outside them needs a new
authority, which clients must be given; the previous certificate is kept as ``ca-previous.pem``. An authority without
constraints, from an earlier version, is kept until its file is removed. Invariants: private keys are in files of mode
0600; files are replaced atomically; processes that start together end up with one authority.
"""

import datetime as dt
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pilothouse.errors import InvalidCertificate
from pilothouse.files import locked, write_file

Clock = Callable[[], dt.datetime]

_AUTHORITY_LIFE: Final = dt.timedelta(days=3650)
#: Clients refuse longer ones, Apple's from 398 days on for public and 825 for private authorities.
_SERVER_LIFE: Final = dt.timedelta(days=397)
#: Clocks differ: a certificate of the future stops everything.
_BACKDATE: Final = dt.timedelta(days=1)
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
_THIS_MACHINE: Final = ipaddress.IPv4Network("127.0.0.0/8")
_PEM: Final = serialization.Encoding.PEM

_log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class CertificateFiles:
    """Paths of the server's certificate chain and key, and of the authority that clients must trust, if it is ours."""

    certificate: Path
    key: Path
    authority: Path | None = None


def authority_file(folder: Path) -> Path:
    """Return the path of the authority's certificate (PEM) that clients are given."""
    return folder / "ca.pem"


def ensure_certificate(
    folder: Path, *, names: Sequence[str], renew_days: int, clock: Clock, also: Sequence[str] = ()
) -> CertificateFiles:
    """Return a certificate in ``folder`` for localhost and these names, valid for at least ``renew_days`` more.

    ``also``: names that nobody configured, such as the host's, which changes at every start of a container; they are
    included if the authority covers them. Creates the authority if there is none. Raises InvalidCertificate for a name
    that is neither a DNS name nor an address, for damaged files, and if the folder cannot be written.
    """
    subjects = [_general_name(name) for name in dict.fromkeys((*_LOOPBACK, *names))]
    files = CertificateFiles(folder / "server.pem", folder / "server.key", authority_file(folder))
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with locked(folder / "lock"):
            now = clock()
            unasked = [_general_name(name) for name in dict.fromkeys(also)]
            authority = _authority(folder, subjects, now, also=unasked)
            subjects += [name for name in unasked if name not in subjects and _may_issue(authority.certificate, [name])]
            if not _serves(files, authority, subjects, until=now + dt.timedelta(days=renew_days)):
                _issue(files, authority, subjects, now)
    except OSError as error:
        raise InvalidCertificate(f"cannot write certificates to {folder}: {error}") from error
    return files


def read_certificate(path: Path) -> x509.Certificate:
    """Return the first certificate of a PEM file; raise InvalidCertificate."""
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except OSError as error:
        raise InvalidCertificate(f"cannot read the certificate {path}: {error.strerror}") from error
    except ValueError as error:
        raise InvalidCertificate(f"{path} contains no PEM certificate: {error}") from error


@dataclass(frozen=True)
class _Authority:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def is_constrained(authority: x509.Certificate) -> bool:
    """Return True if the authority is valid for some names only."""
    return _permitted(authority) is not None


def _authority(
    folder: Path, names: Sequence[x509.GeneralName], now: dt.datetime, *, also: Sequence[x509.GeneralName]
) -> _Authority:
    certificate_file, key_file = authority_file(folder), folder / "ca.key"
    if certificate_file.exists():
        known = _Authority(read_certificate(certificate_file), _read_key(key_file))
        if known.certificate.not_valid_after_utc > now and _may_issue(known.certificate, names):
            return known
        write_file(folder / "ca-previous.pem", known.certificate.public_bytes(_PEM), mode=0o644)
        _log.warning("authority_replaced", clients_need=str(certificate_file))
    key = ec.generate_private_key(ec.SECP256R1())
    # The serial number in the name keeps the authorities of two installations apart in one trust store.
    serial = x509.random_serial_number()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Pilothouse local authority {serial:x}"[:64])])
    certificate = (
        _draft(subject, subject, key.public_key(), now=now, life=_AUTHORITY_LIFE, serial=serial)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(certificates=True), critical=True)
        .add_extension(x509.NameConstraints(_subtrees([*names, *also]), excluded_subtrees=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    # The key first: a certificate without its key would be refused at every later start.
    write_file(key_file, _key_pem(key))
    write_file(certificate_file, certificate.public_bytes(_PEM), mode=0o644)
    return _Authority(certificate, key)


def _permitted(authority: x509.Certificate) -> Sequence[x509.GeneralName] | None:
    try:
        found = authority.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return None
    return found.permitted_subtrees or ()


def _may_issue(authority: x509.Certificate, names: Sequence[x509.GeneralName]) -> bool:
    permitted = _permitted(authority)
    return permitted is None or all(any(_covers(subtree, name) for subtree in permitted) for name in names)


def _covers(permitted: x509.GeneralName, name: x509.GeneralName) -> bool:
    if isinstance(permitted, x509.DNSName) and isinstance(name, x509.DNSName):
        return f".{name.value.lower()}".endswith(f".{permitted.value.lower()}")
    if isinstance(permitted, x509.IPAddress) and isinstance(name, x509.IPAddress):
        network, address = permitted.value, name.value
        return (
            isinstance(network, ipaddress.IPv4Network | ipaddress.IPv6Network)
            and isinstance(address, ipaddress.IPv4Address | ipaddress.IPv6Address)
            and address in network
        )
    return False


def _subtrees(names: Sequence[x509.GeneralName]) -> list[x509.GeneralName]:
    """Return the name constraints of an authority for these names; loopback always covers the whole machine."""
    subtrees: list[x509.GeneralName] = [x509.IPAddress(_THIS_MACHINE)]
    for name in names:
        if isinstance(name, x509.IPAddress):
            network = ipaddress.ip_network(name.value)
            if not (network.version == _THIS_MACHINE.version and network.subnet_of(_THIS_MACHINE)):
                subtrees.append(x509.IPAddress(network))
        elif isinstance(name, x509.DNSName):
            subtrees.append(x509.DNSName(name.value.removeprefix("*.")))
    return subtrees


def _serves(
    files: CertificateFiles, authority: _Authority, names: Sequence[x509.GeneralName], *, until: dt.datetime
) -> bool:
    if not files.certificate.exists() or not files.key.exists():
        return False
    try:
        certificate = read_certificate(files.certificate)
        if certificate.public_key() != _read_key(files.key).public_key():
            return False
        certificate.verify_directly_issued_by(authority.certificate)
        present = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (InvalidCertificate, InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
        return False  # what is only ours to issue is issued again
    return set(present) == set(names) and certificate.not_valid_after_utc > min(
        until, authority.certificate.not_valid_after_utc - dt.timedelta(seconds=1)
    )


def _issue(files: CertificateFiles, authority: _Authority, names: Sequence[x509.GeneralName], now: dt.datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Pilothouse")])
    life = min(_SERVER_LIFE, authority.certificate.not_valid_after_utc - now)
    certificate = (
        _draft(subject, authority.certificate.subject, key.public_key(), now=now, life=life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(certificates=False), critical=True)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
        .sign(authority.key, hashes.SHA256())
    )
    write_file(files.key, _key_pem(key))
    write_file(files.certificate, certificate.public_bytes(_PEM), mode=0o644)


def _draft(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    *,
    now: dt.datetime,
    life: dt.timedelta,
    serial: int | None = None,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not certificates,
        key_cert_sign=certificates,
        crl_sign=certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:
        if name and not any(character.isspace() for character in name):
            return x509.DNSName(name.encode("idna").decode())
    except (UnicodeError, ValueError):
        pass
    raise InvalidCertificate(f"{name!r} is neither a DNS name nor an address; see PILOTHOUSE_TLS__NAMES")


def _read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(path.read_bytes(), password=None)
    except OSError as error:
        raise InvalidCertificate(f"cannot read the key {path}: {error.strerror}") from error
    except (ValueError, TypeError) as error:
        raise InvalidCertificate(f"{path} contains no PEM private key") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise InvalidCertificate(
            f"{path} contains a key that Pilothouse did not create; remove the folder to start over"
        )
    return key


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(_PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
