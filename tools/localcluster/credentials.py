"""Makes the certificates, keys, tokens and kubeconfigs of one local cluster.

Everything listens on loopback, which all users of the machine share; so etcd asks for a client certificate, the API
server for a token, and all of it lies in a folder that only its owner can enter.
"""

import base64
import datetime as dt
import ipaddress
import json
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tools.localcluster.folders import ClusterFolder, write_private
from tools.localcluster.programs import CONTROLLER_MANAGER, KWOK, SCHEDULER

ADMIN = "admin"
CONTEXT = "pilothouse-local"
LIFETIME = dt.timedelta(days=3650)
SERVICE_ADDRESS = "10.96.0.1"
"""Of the service `kubernetes`: the first of the service range that components.py gives to the API server."""
USERS = {
    ADMIN: (ADMIN, "system:masters"),
    CONTROLLER_MANAGER: ("system:kube-controller-manager", "system:masters"),
    SCHEDULER: ("system:kube-scheduler", ""),
    KWOK: ("kwok", "system:masters"),
}
"""Who has a token: user name and group. Names of their own, so that the audit log tells who did what."""


@dataclass(frozen=True)
class Authority:
    """A certificate authority: its certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @classmethod
    def new(cls, name: str) -> "Authority":
        """Return an authority with a new key."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            _draft(subject, issuer=subject, key=key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    def issue(self, folder: Path, name: str, *, addresses: tuple[str, ...] = ("127.0.0.1",)) -> None:
        """`folder` holds `name`.crt and `name`.key, good for both ends of a connection to these addresses."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.DNSName("kubernetes.default.svc")]
        names += [x509.IPAddress(ipaddress.ip_address(address)) for address in addresses]
        authority_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        certificate = (
            _draft(subject, issuer=self.certificate.subject, key=key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            .add_extension(authority_key, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        write_private(folder / f"{name}.crt", certificate.public_bytes(serialization.Encoding.PEM))
        write_private(folder / f"{name}.key", _pem(key))

    def save(self, folder: Path, name: str) -> None:
        """`folder` holds `name`.crt and `name`.key of the authority itself."""
        write_private(folder / f"{name}.crt", self.certificate.public_bytes(serialization.Encoding.PEM))
        write_private(folder / f"{name}.key", _pem(self.key))


def ensure(folder: ClusterFolder) -> None:
    """Complete the cluster's `pki` folder."""
    if folder.pki.is_dir():
        return
    scratch = folder.new_pki
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(mode=0o700)
    authority = Authority.new("pilothouse-local")
    authority.save(scratch, "ca")
    authority.issue(scratch, "apiserver", addresses=("127.0.0.1", SERVICE_ADDRESS))
    authority.issue(scratch, KWOK)
    # Of its own: the other authority also signs certificate requests of the cluster, and those must not open etcd.
    store = Authority.new("pilothouse-local-etcd")
    write_private(scratch / "etcd-ca.crt", store.certificate.public_bytes(serialization.Encoding.PEM))
    store.issue(scratch, "etcd")

    accounts = ec.generate_private_key(ec.SECP256R1())
    write_private(scratch / "service-accounts.key", _pem(accounts))
    public = accounts.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    write_private(scratch / "service-accounts.pub", public)
    rows = [f'{secrets.token_urlsafe(32)},{user},{name},"{group}"\n' for name, (user, group) in USERS.items()]
    write_private(scratch / "tokens.csv", "".join(rows).encode())
    scratch.rename(folder.pki)


def write_kubeconfigs(folder: ClusterFolder, *, server: str) -> None:
    """Every user of the cluster has a kubeconfig for this address; the admin's is the one for people and clients."""
    authority = base64.b64encode((folder.pki / "ca.crt").read_bytes()).decode()
    for name in USERS:
        path = folder.kubeconfig if name == ADMIN else folder.pki / f"{name}.kubeconfig"
        content = _kubeconfig(server=server, authority=authority, user=name, token=token(folder, name)).encode()
        if not path.exists() or path.read_bytes() != content:
            write_private(path, content)


def token(folder: ClusterFolder, name: str) -> str:
    """Return the bearer token of one of USERS."""
    for row in (folder.pki / "tokens.csv").read_text().splitlines():
        value, _, uid, _ = row.split(",", 3)
        if uid == name:
            return value
    raise KeyError(name)


def _kubeconfig(*, server: str, authority: str, user: str, token: str) -> str:
    """JSON, which is YAML too, with the same bytes for the same content."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": CONTEXT,
        "contexts": [{"name": CONTEXT, "context": {"cluster": CONTEXT, "user": user}}],
        "clusters": [{"name": CONTEXT, "cluster": {"server": server, "certificate-authority-data": authority}}],
        "users": [{"name": user, "user": {"token": token}}],
    }
    return json.dumps(document, indent=2) + "\n"


def _draft(subject: x509.Name, *, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        # Clocks jump in virtual machines, and a certificate of the future stops everything.
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + LIFETIME)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
