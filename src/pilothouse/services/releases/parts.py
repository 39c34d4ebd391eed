"""What Helm stored of a revision, part by part: values, manifest, notes and hooks, as ``helm get`` has them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeVar

import msgspec
import orjson

from pilothouse.auth.policy import READ_VALUES
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.stored_hooks import StoredHook, decode_hooks
from pilothouse.masking_thread import in_masking_thread
from pilothouse.off_loop import off_loop
from pilothouse.redaction import WITHHELD, Masks
from pilothouse.services.charts.archives import compact_json
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.releases.masking import (
    hide_in_manifest,
    hide_values,
    is_too_large,
    mask_values,
    masks_of_stored,
)
from pilothouse.settings import ReleaseSettings

#: The user's own values, the chart's, and both merged as the templates see them.
Layer = Literal["user", "computed", "chart"]
Shown = TypeVar("Shown")
#: Values may have as much text, and are not measured first.
_LARGE: Final = 2**20


@dataclass(frozen=True)
class Values:
    """The values of a layer."""

    revision: int
    layer: Layer
    values: dict[str, Any] = field(repr=False)


@dataclass(frozen=True)
class StoredText:
    """The manifest or the notes of a revision."""

    revision: int
    text: str = field(repr=False)


@dataclass(frozen=True)
class StoredHooks:
    """The hooks of a revision."""

    revision: int
    hooks: list[StoredHook] = field(repr=False)


class ReleaseParts:
    """Show the parts of a revision that was read from the cluster.

    Callers who may not read values are shown the names of values only, and texts with the values masked.
    """

    def __init__(self, settings: ReleaseSettings) -> None:
        self._settings = settings

    async def show_values(self, caller: Caller, stored: StoredRelease, layer: Layer) -> Values:
        """Return the values of that layer."""
        caller.require("cce:release:get")
        values = {"user": stored.config, "chart": stored.chart_values, "computed": stored.values}[layer]
        hides = not caller.may(READ_VALUES)
        if not hides and not self._settings.mask_values:
            return Values(stored.revision, layer, values)

        def masked() -> dict[str, Any]:
            text = compact_json(values)
            found: dict[str, Any] = orjson.loads(hide_values(text) if hides else mask_values(text))
            return found

        return Values(stored.revision, layer, await off_loop(masked, size=_LARGE))

    async def show_manifest(self, caller: Caller, stored: StoredRelease) -> StoredText:
        """Return the rendered objects, without hooks."""
        caller.require("cce:release:get")
        return StoredText(stored.revision, await _shown(caller, stored, stored.manifest, hide_in_manifest))

    async def show_notes(self, caller: Caller, stored: StoredRelease) -> StoredText:
        """Return what the chart says to the user."""
        caller.require("cce:release:get")
        return StoredText(stored.revision, await _shown(caller, stored, stored.notes, _hide_in_text))

    async def show_hooks(self, caller: Caller, stored: StoredRelease) -> StoredHooks:
        """Return the hooks, with their last runs; raises CorruptRelease if they cannot be read."""
        caller.require("cce:release:get")
        hooks = await off_loop(lambda: decode_hooks(stored.hooks_json), size=len(stored.hooks_json))
        return StoredHooks(stored.revision, await _shown(caller, stored, hooks, _hide_in_hooks))


async def _shown(caller: Caller, stored: StoredRelease, part: Shown, hide: Callable[[Shown, Masks], Shown]) -> Shown:
    if caller.may(READ_VALUES):
        return part
    return await in_masking_thread(lambda: hide(part, masks_of_stored(stored)))


def _hide_in_text(text: str, masks: Masks) -> str:
    return masks.apply(text)


def _hide_in_hooks(hooks: list[StoredHook], masks: Masks) -> list[StoredHook]:
    if is_too_large(*(hook.manifest for hook in hooks)):
        return [msgspec.structs.replace(hook, manifest=WITHHELD) for hook in hooks]
    return [msgspec.structs.replace(hook, manifest=hide_in_manifest(hook.manifest, masks)) for hook in hooks]
