"""The hooks of a stored revision, with all that Helm says of them."""

import msgspec

from pilothouse.errors import CorruptRelease
from pilothouse.kubernetes.json_lines import count_values

_LARGEST = 2 * 1024 * 1024
#: Two bytes of text can be a hook of their own, which takes a hundred.
_MOST_VALUES = 20_000


class HookRun(msgspec.Struct):
    """The last run of a hook; Helm writes a zero time for what has not been."""

    phase: str = ""
    started_at: str | None = None
    completed_at: str | None = None


class StoredHook(msgspec.Struct):
    """A hook as Helm stored it."""

    name: str = ""
    kind: str = ""
    path: str = ""
    manifest: str = ""
    events: list[str] | None = None
    weight: int = 0
    delete_policies: list[str] | None = None
    last_run: HookRun | None = None


def decode_hooks(hooks_json: bytes) -> list[StoredHook]:
    """Decode the hooks in a release's payload; raise CorruptRelease if they are unreadable or too large."""
    if len(hooks_json) > _LARGEST:
        raise CorruptRelease(f"the hooks of the revision have more than {_LARGEST} bytes")
    if count_values(hooks_json) > _MOST_VALUES:
        raise CorruptRelease(f"the hooks of the revision have more than {_MOST_VALUES} values")
    try:
        return _decoder.decode(hooks_json or b"[]") or []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise CorruptRelease("the hooks of the revision cannot be read") from None


_decoder = msgspec.json.Decoder(list[StoredHook] | None)
