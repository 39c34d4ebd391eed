"""The hooks of a stored revision, with all that Helm says of them."""

import msgspec

from pilothouse.errors import CorruptRelease

_LARGEST = 2 * 1024 * 1024
#: Hooks, and their events and policies: two bytes of text can be a hook of their own, which is shown in two hundred.
_MOST_ITEMS = 20_000
_TEST = "test"


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

    @property
    def is_test(self) -> bool:
        """True if ``helm test`` runs it."""
        return _TEST in (self.events or ())


def decode_hooks(hooks_json: bytes) -> list[StoredHook]:
    """Decode the hooks in a release's payload; raise CorruptRelease if they are unreadable or too large."""
    if len(hooks_json) > _LARGEST:
        raise CorruptRelease(f"the hooks of the revision have more than {_LARGEST} bytes")
    try:
        hooks = _decoder.decode(hooks_json or b"[]") or []
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise CorruptRelease("the hooks of the revision cannot be read") from None
    if sum(1 + len(hook.events or ()) + len(hook.delete_policies or ()) for hook in hooks) > _MOST_ITEMS:
        raise CorruptRelease(f"the hooks of the revision have more than {_MOST_ITEMS} events and policies")
    return hooks


_decoder = msgspec.json.Decoder(list[StoredHook] | None)
