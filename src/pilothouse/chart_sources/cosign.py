"""Signatures of cosign in a registry: Sigstore bundles that refer to the chart's manifest, and the form before them.

A bundle lies in an artifact of its own, whose subject is the manifest. Before version 3 cosign kept signatures in an
image under a tag that names the manifest. Sources: cosign's specifications of both; OCI distribution specification 1.1,
"Listing Referrers" and "Referrers Tag Schema"; the containers' simple signing format.
"""

import base64
from typing import Final

from pilothouse.chart_sources.registry import Layer, Referrer, Repository
from pilothouse.engine.signatures import CosignSignature, CosignSignatures
from pilothouse.errors import InvalidSource

_PAYLOAD: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
_SIGNATURE: Final = "dev.cosignproject.cosign/signature"
_BUNDLE: Final = "application/vnd.dev.sigstore.bundle.v0.3+json"
#: Registries of before OCI 1.1, and some of after, list an artifact with the type of its config.
_ARTIFACT_TYPES: Final = frozenset({_BUNDLE, "application/vnd.oci.empty.v1+json", ""})
_PREDICATE: Final = "dev.sigstore.bundle.predicateType"
_SIGNED: Final = "https://sigstore.dev/cosign/sign/v1"
#: Each takes a request or two; cosign adds one for each time that somebody signs.
_MOST: Final = 20
_MOST_BYTES: Final = 64 * 1024


async def fetch_signatures(repository: Repository, digest: str) -> CosignSignatures:
    """Return the signatures of the manifest with that digest, in both forms. Nothing in them is judged."""
    return CosignSignatures(await _fetch_tagged(repository, digest), await _fetch_bundles(repository, digest))


async def _fetch_tagged(repository: Repository, digest: str) -> tuple[CosignSignature, ...]:
    tag = f"{digest.replace(':', '-')}.sig"
    found = await repository.find_artifact(tag)
    layers = [layer for layer in found.layers if layer.media_type == _PAYLOAD] if found is not None else []
    _refuse_more(len(layers), where=tag)
    return tuple([await _fetch(repository, layer, layer.annotations.get(_SIGNATURE, "")) for layer in layers])


async def _fetch(repository: Repository, layer: Layer, signature: str) -> CosignSignature:
    payload = await repository.read_layer(layer, most_bytes=_MOST_BYTES)
    try:
        decoded = base64.b64decode(signature, validate=True)
    except ValueError:
        decoded = b""
    return CosignSignature(payload=base64.b64encode(payload).decode(), signature=base64.b64encode(decoded).decode())


async def _fetch_bundles(repository: Repository, digest: str) -> tuple[str, ...]:
    listed = [referrer for referrer in await repository.list_referrers(digest) if _may_sign(referrer)]
    _refuse_more(len(listed), where=f"what refers to {digest}")
    layers = [await _find_bundle(repository, referrer) for referrer in listed]
    texts = [await repository.read_layer(layer, most_bytes=_MOST_BYTES) for layer in layers if layer is not None]
    return tuple(base64.b64encode(text).decode() for text in texts)


def _may_sign(referrer: Referrer) -> bool:
    """Return False for what the list tells to be something else, such as an attestation."""
    return referrer.artifact_type in _ARTIFACT_TYPES and referrer.annotations.get(_PREDICATE, _SIGNED) == _SIGNED


async def _find_bundle(repository: Repository, referrer: Referrer) -> Layer | None:
    found = await repository.find_artifact(referrer.digest)
    if found is None or found.annotations.get(_PREDICATE, _SIGNED) != _SIGNED:
        return None
    return next((layer for layer in found.layers if layer.media_type == _BUNDLE), None)


def _refuse_more(count: int, *, where: str) -> None:
    if count > _MOST:
        raise InvalidSource(f"the chart has {count} signatures ({where}); at most {_MOST} are looked at")
