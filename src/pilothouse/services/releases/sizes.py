"""Early refusal of values that no release Secret can hold, before their operation is queued."""

import asyncio
import zlib
from collections.abc import Mapping
from typing import Any, Final

import orjson

from pilothouse.errors import InvalidRequest

#: Kubernetes takes 1 MiB of data in a Secret; Helm's is base64 of gzip.
_LARGEST: Final = 1024 * 1024 * 3 // 4
#: Helm packs with Go's encoder, beside the chart and the manifest: it may come out smaller than what is measured here,
#: and what would fit must not be refused. The preflight measures the whole release.
_MARGIN: Final = 0.8


async def refuse_oversized(values: Mapping[str, Any]) -> None:
    """Return if a release Secret might hold the values; else raise InvalidRequest with their size and the limit."""
    text = orjson.dumps(values)
    if len(text) * _MARGIN <= _LARGEST:
        return
    size = await asyncio.to_thread(_packed, text)
    if size * _MARGIN > _LARGEST:
        raise InvalidRequest(
            f"values: {len(text)} bytes, {size} when packed; a release's Secret holds {_LARGEST} compressed bytes in "
            "all, so Helm could not store the release. Put large files into a separate ConfigMap, Secret or volume"
        )


def _packed(text: bytes) -> int:
    return len(zlib.compress(text, 9))  # releases the interpreter while it works
