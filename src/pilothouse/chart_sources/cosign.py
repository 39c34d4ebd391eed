"""Signatures of cosign in a registry: an image beside the chart, under a tag that names the chart's manifest.

Source: cosign's specification, "Storage" and "Signature"; the containers' simple signing format.
"""

import base64
from typing import Final

from pilothouse.chart_sources.registry import Layer, Repository
from pilothouse.engine.signatures import CosignSignature
from pilothouse.errors import InvalidSource

_PAYLOAD: Final = "application/vnd.dev.cosign.simplesigning.v1+json"
_SIGNATURE: Final = "dev.cosignproject.cosign/signature"
#: Each takes a request; cosign adds one for each time that somebody signs.
_MOST: Final = 20
_MOST_BYTES: Final = 64 * 1024


async def fetch_signatures(repository: Repository, digest: str) -> tuple[CosignSignature, ...]:
    """Return the signatures of the manifest with that digest; empty if it has none. Nothing in them is judged."""
    tag = f"{digest.replace(':', '-')}.sig"
    found = await repository.find_layers(tag)
    signatures = [(layer, layer.annotations.get(_SIGNATURE, "")) for layer in found if layer.media_type == _PAYLOAD]
    if len(signatures) > _MOST:
        raise InvalidSource(f"the chart has {len(signatures)} signatures ({tag}); at most {_MOST} are looked at")
    return tuple([await _fetch(repository, layer, signature) for layer, signature in signatures])


async def _fetch(repository: Repository, layer: Layer, signature: str) -> CosignSignature:
    payload = await repository.read_layer(layer, most_bytes=_MOST_BYTES)
    try:
        decoded = base64.b64decode(signature, validate=True)
    except ValueError:
        decoded = b""
    return CosignSignature(payload=base64.b64encode(payload).decode(), signature=base64.b64encode(decoded).decode())
