"""Forms that a browser carries through a log-in, sealed: whoever uses the browser meanwhile cannot read them."""

import base64
import binascii
import zlib
from collections.abc import Mapping
from typing import Final

import orjson

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import DecryptionFailed

_CONTEXT: Final = "console-form"


class SealedForms:
    """Seal the fields of a form as one text, which every replica can open."""

    def __init__(self, keys: MasterKeys) -> None:
        self._keys = keys

    def seal(self, fields: Mapping[str, str]) -> str:
        """Return the fields as a text that tells nothing of them but about how long they are."""
        packed = zlib.compress(orjson.dumps(dict(fields)))
        return base64.urlsafe_b64encode(self._keys.seal(packed, context=_CONTEXT)).decode()

    def open(self, text: str) -> dict[str, str]:
        """Return the fields that were sealed; none if the text is not of ``seal``, or of a key that is gone."""
        try:
            sealed = base64.b64decode(text, altchars=b"-_", validate=True)
            packed = self._keys.unseal(sealed, context=_CONTEXT)
        except (binascii.Error, ValueError, DecryptionFailed):
            return {}
        found: dict[str, str] = orjson.loads(zlib.decompress(packed))
        return found
