"""Requests about who signed a chart: all that signers and sources write is parsed by the engine's child."""

from dataclasses import dataclass, field

from pilothouse.engine.request import Body, Request


@dataclass(frozen=True, kw_only=True)
class ReadableKeys:
    """The fingerprints of the keys that can sign now; ``unusable``: of the others, each with the reason."""

    fingerprints: tuple[str, ...]
    unusable: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class ReadKeysRequest(Request[ReadableKeys]):
    """Read public keys: armored ones of PGP, or PEM for cosign; a key that cannot be used is an error."""

    action = "read_keys"
    outcome_type = ReadableKeys

    kind: str
    keys: str


@dataclass(frozen=True, kw_only=True)
class FoundSignature:
    """A signature that counts: the name in the key, its fingerprint, and when it was made (RFC 3339, or empty).

    ``signing_key``: the fingerprint of the key that signed: that one, or a subkey of it.
    """

    signed_by: str
    fingerprint: str
    signing_key: str
    signed_at: str


@dataclass(frozen=True, kw_only=True)
class VerifyProvenanceRequest(Request[FoundSignature]):
    """Verify the provenance of an archive with armored public keys, as ``helm verify`` does.

    ``unfetched``: the archive is not there, and only its digest, in hex, may be known.
    """

    action = "verify_provenance"
    outcome_type = FoundSignature

    chart: Body = field(repr=False)
    unfetched: bool = False
    digest: str = ""
    file_name: str
    provenance: str = field(repr=False)
    keys: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class CosignSignature:
    """A payload that was signed, and its signature, both in base64."""

    payload: str = field(repr=False)
    signature: str = field(repr=False)


@dataclass(frozen=True)
class CosignSignatures:
    """What a registry has of signatures of a manifest: in the form before bundles, and Sigstore's bundles in base64."""

    signatures: tuple[CosignSignature, ...] = ()
    bundles: tuple[str, ...] = field(default=(), repr=False)

    def __bool__(self) -> bool:
        """Return True if there is any."""
        return bool(self.signatures or self.bundles)


@dataclass(frozen=True, kw_only=True)
class VerifySignaturesRequest(Request[FoundSignature]):
    """Find the signature of a manifest by one of the keys, as ``cosign verify --key`` does.

    ``signatures``: in the form before bundles; ``bundles``: Sigstore's, in base64.
    """

    action = "verify_signatures"
    outcome_type = FoundSignature

    digest: str
    signatures: tuple[CosignSignature, ...]
    bundles: tuple[str, ...] = field(repr=False)
    keys: str = field(repr=False)
