"""Keys of our own, and charts that are signed with them: by the real helm and the real cosign, which is built once.

Signatures that cosign does not make are made here, as its specification says.
"""

import base64
import hashlib
import json
import ssl
import subprocess
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import httpx2
import pgpy
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key
from pgpy.constants import EllipticCurveOID, HashAlgorithm, KeyFlags, PubKeyAlgorithm, RevocationReason

from pilothouse.chart_sources.registry import MANIFEST
from tests.support.chart_sources import USER, Registry
from tests.support.charts import read_archive
from tools.localcluster import builds, programs
from tools.localcluster.progress import on_stderr


@dataclass(frozen=True)
class PgpKey:
    """A key of PGP, armored, and how verifications name it."""

    name: str
    public: str
    private: str = field(repr=False)
    fingerprint: str
    expired: bool

    @property
    def user(self) -> str:
        return f"{self.name} <{self.name}@example.com>"

    def sign(self, provenance: str) -> str:
        """Return a provenance, signed by this key in place of who signed it."""
        return _signed(provenance, pgpy.PGPKey.from_blob(self.private)[0])


@cache
def pgp_key(name: str, *, expired: bool = False) -> PgpKey:
    """Return the key of that name: the same one in a process."""
    created = datetime.now(UTC) - timedelta(days=3 if expired else 0, seconds=1)
    made = pgpy.PGPKey.new(PubKeyAlgorithm.EdDSA, EllipticCurveOID.Ed25519, created=created)
    life = {"key_expiration": timedelta(days=1)} if expired else {}
    identity = pgpy.PGPUID.new(name, email=f"{name}@example.com")
    made.add_uid(identity, usage={KeyFlags.Sign, KeyFlags.Certify}, hashes=[HashAlgorithm.SHA512], **life)
    return PgpKey(name, str(made.pubkey), str(made), str(made.fingerprint).replace(" ", ""), expired)


def revoked(key: PgpKey) -> str:
    """Return the public key as it is spread once its owner has revoked it."""
    found, _ = pgpy.PGPKey.from_blob(key.private)
    found |= found.revoke(found, reason=RevocationReason.Compromised)
    return str(found.pubkey)


@dataclass(frozen=True)
class SubkeyedKey:
    """A key with a subkey that signs: public with it, with it revoked, and without it."""

    public: str
    revoked: str
    without: str
    fingerprint: str
    signing_key: str
    primary: pgpy.PGPKey = field(repr=False)

    def sign(self, provenance: str) -> str:
        """Return a provenance, signed by the subkey in place of who signed it, as gpg does."""
        (signing,) = self.primary.subkeys.values()
        return _signed(provenance, signing)


def _signed(provenance: str, key: pgpy.PGPKey) -> str:
    text, _, _ = provenance.partition("\n\n")[2].partition("\n-----BEGIN PGP SIGNATURE")
    message = pgpy.PGPMessage.new(text, cleartext=True)
    message |= key.sign(message, hash=HashAlgorithm.SHA512)
    return str(message)


def key_with_subkey(name: str) -> SubkeyedKey:
    """Return a new key of that name."""
    made, _ = pgpy.PGPKey.from_blob(pgp_key(name).private)
    without = str(made.pubkey)
    signing = pgpy.PGPKey.new(PubKeyAlgorithm.EdDSA, EllipticCurveOID.Ed25519, created=made.created)
    made.add_subkey(signing, usage={KeyFlags.Sign})
    public = str(made.pubkey)
    signing |= made.revoke(signing, reason=RevocationReason.Retired)
    return SubkeyedKey(
        public, str(made.pubkey), without, pgp_key(name).fingerprint, str(signing.fingerprint).replace(" ", ""), made
    )


def signed(helm: Path, archive: bytes, key: PgpKey) -> tuple[bytes, str]:
    """Return the chart as ``helm package --sign`` packs it, and its provenance, which ``helm verify`` accepts."""
    with tempfile.TemporaryDirectory() as home:
        folder, ring, public = Path(home) / "chart", Path(home) / "ring.asc", Path(home) / "public.asc"
        ring.write_text(key.private)
        public.write_text(key.public)
        for path, content in read_archive(archive).items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(content)
        (chart,) = folder.iterdir()
        options = ["--sign", "--key", key.name, "--keyring", str(ring), "--destination", home]
        _run(helm, home, "package", str(chart), *options)
        (file,) = Path(home).glob("*.tgz")
        if not key.expired:
            _run(helm, home, "verify", str(file), "--keyring", str(public))
        return file.read_bytes(), file.with_name(f"{file.name}.prov").read_text()


def _run(helm: Path, home: str, *arguments: str) -> None:
    environment = {"HOME": home, "PATH": "/usr/bin:/bin"}
    done = subprocess.run([helm, *arguments], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@dataclass(frozen=True)
class CosignKey:
    """A key of cosign's usual kind, and how verifications name it."""

    private: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def public(self) -> str:
        return self._encoded(Encoding.PEM).decode()

    @property
    def fingerprint(self) -> str:
        return "SHA256:" + hashlib.sha256(self._encoded(Encoding.DER)).hexdigest()

    def _encoded(self, encoding: Encoding) -> bytes:
        return self.private.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True)
class Signer:
    """The real cosign with a key of its own, and how verifications name that."""

    program: Path
    folder: Path

    @property
    def public(self) -> str:
        return (self.folder / "cosign.pub").read_text()

    @property
    def fingerprint(self) -> str:
        key = load_pem_public_key(self.public.encode())
        return "SHA256:" + hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()

    def sign(self, registry: Registry, path: str, tag: str, *, bundle: bool = True) -> str:
        """Sign the manifest, as a bundle or in the form before; return its digest. No log and no service is asked."""
        digest = registry.digest(path, tag)
        form = [] if bundle else ["--new-bundle-format=false"]
        self._run("sign", *_OFFLINE, *form, *_registry_flags(registry), f"{registry.host}/{path}@{digest}")
        return digest

    def attest(self, registry: Registry, path: str, tag: str) -> str:
        """Sign a statement about the manifest that is no signature of it; return its digest."""
        digest, predicate = registry.digest(path, tag), self.folder / "predicate.json"
        predicate.write_text('{"passed": false}')
        options = ["--predicate", str(predicate), "--type", "https://example.com/tested", *_registry_flags(registry)]
        self._run("attest", *_OFFLINE, *options, f"{registry.host}/{path}@{digest}")
        return digest

    def verify(self, registry: Registry, path: str, digest: str, *, bundle: bool = True) -> None:
        """Let cosign judge by its public key."""
        form = [] if bundle else ["--new-bundle-format=false"]
        options = ["--key", str(self.folder / "cosign.pub"), "--insecure-ignore-tlog=true", *form]
        self._run("verify", *options, *_registry_flags(registry), f"{registry.host}/{path}@{digest}")

    def _run(self, *arguments: str) -> None:
        done = subprocess.run(
            [self.program, *arguments], env={"HOME": str(self.folder), "PATH": "/usr/bin:/bin", "COSIGN_PASSWORD": ""},
            cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr


_OFFLINE = ("--key", "cosign.key", "--yes", "--tlog-upload=false", "--use-signing-config=false")


def _registry_flags(registry: Registry) -> list[str]:
    user = ["--registry-username", USER, "--registry-password", registry.password]
    return [*user, "--registry-cacert", str(registry.ca)]


def signer(folder: Path, private: str = "") -> Signer:
    """Return the real cosign with a new key, or with that one in PEM form, which it imports."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Signer(builds.build(programs.COSIGN, progress=on_stderr()) / "cosign", folder)
    if private:
        (folder / "private.pem").write_text(private)
        made._run("import-key-pair", "--key", "private.pem", "--output-key-prefix", "cosign", "--yes")
    else:
        made._run("generate-key-pair")
    return made


def cosign_key() -> CosignKey:
    return CosignKey(ec.generate_private_key(ec.SECP256R1()))


def cosign(registry: Registry, path: str, tag: str, key: CosignKey, *, claims: str = "") -> str:
    """Sign as ``cosign sign --key`` does (its specification, "Storage"); return the digest of the manifest.

    ``claims``: the digest that the payload names in place of the manifest's.
    """
    tls = ssl.create_default_context(cafile=str(registry.ca))
    base = f"https://{registry.host}/v2/{path}"
    with httpx2.Client(verify=tls, trust_env=False, auth=(USER, registry.password)) as http:
        digest = registry.digest(path, tag)
        critical = {
            "identity": {"docker-reference": f"{registry.host}/{path}"},
            "image": {"docker-manifest-digest": claims or digest},
            "type": "cosign container image signature",
        }
        payload = json.dumps({"critical": critical, "optional": None}, separators=(",", ":")).encode()
        signature = base64.b64encode(key.private.sign(payload, ec.ECDSA(hashes.SHA256()))).decode()
        layer = {
            **_push(http, base, payload),
            "mediaType": "application/vnd.dev.cosign.simplesigning.v1+json",
            "annotations": {"dev.cosignproject.cosign/signature": signature},
        }
        config = {**_push(http, base, b"{}"), "mediaType": "application/vnd.oci.image.config.v1+json"}
        manifest = {"schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer]}
        name = f"{digest.replace(':', '-')}.sig"
        made = http.put(
            f"{base}/manifests/{name}", content=json.dumps(manifest).encode(), headers={"Content-Type": MANIFEST}
        )
        assert made.status_code == 201, made.text
    return digest


def _push(http: httpx2.Client, base: str, blob: bytes) -> dict[str, object]:
    begun = http.post(f"{base}/blobs/uploads/")
    assert begun.status_code == 202, begun.text
    digest = f"sha256:{hashlib.sha256(blob).hexdigest()}"
    place = httpx2.URL(base).join(begun.headers["location"]).copy_merge_params({"digest": digest})
    ended = http.put(place, content=blob, headers={"Content-Type": "application/octet-stream"})
    assert ended.status_code == 201, ended.text
    return {"digest": digest, "size": len(blob)}
