"""Signatures of messages to webhooks, in the form of the Standard Webhooks specification.

Its libraries verify them in most languages. What is signed is id, time and body, so that a captured message can neither
be changed nor, by a receiver that looks at the time, be sent again later.

Source: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
"""

import base64
import hmac
import os
from collections.abc import Callable
from typing import Final

#: Recognisable, so that scanners for leaked secrets can find one in a repository or a log.
SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the prefix of one
_SECRET_BYTES: Final = 32


def new_secret(random_bytes: Callable[[int], bytes] = os.urandom) -> str:
    """Return a secret with 256 random bits."""
    return SECRET_PREFIX + base64.b64encode(random_bytes(_SECRET_BYTES)).decode("ascii")


def signed_headers(secret: str, body: bytes, *, message_id: str, timestamp: int) -> dict[str, str]:
    """Return the headers that prove to who knows the secret that the message is ours; ``timestamp``: Unix seconds."""
    key = base64.b64decode(secret.removeprefix(SECRET_PREFIX))
    proof = hmac.digest(key, f"{message_id}.{timestamp}.".encode() + body, "sha256")
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": f"v1,{base64.b64encode(proof).decode('ascii')}",
    }
