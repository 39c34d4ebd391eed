"""What Helm stored of a revision, part by part: values, manifest, notes and hooks, as ``helm get`` has them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

import msgspec
import orjson

from pilothouse.auth.policy import READ_VALUES
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.kubernetes.stored_hooks import StoredHook, decode_hooks
from pilothouse.masking_thread import in_masking_thread
from pilothouse.off_loop import off_loop
from pilothouse.redaction import Masks, masks_of
from pilothouse.services.charts.archives import compact_json
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.releases.details import Place, ReleaseDetails
from pilothouse.services.releases.masking import hide_in_manifest, hide_values, mask_values
from pilothouse.settings import ReleaseSettings

#: The user's own values, the chart's, and both merged as the templates see them.
Layer = Literal["user", "computed", "chart"]
Shown = TypeVar("Shown")


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
    """Read the parts of a revision from the cluster; ``revision`` None is the newest.

    Callers who may not read values are shown the names of values only, and texts with the values masked. Every method
    raises NotFound, ClusterUnavailable, ClusterDenied, or CorruptRelease for a revision that cannot be decoded.
    """

    def __init__(self, details: ReleaseDetails, settings: ReleaseSettings) -> None:
        self._details = details
        self._settings = settings

    async def show_values(self, caller: Caller, place: Place, layer: Layer, *, revision: int | None) -> Values:
        """Return the values of that layer."""
        caller.require("cce:release:get")
        stored = await self._details.find_stored(caller, place, revision)
        values = {"user": stored.config, "chart": stored.chart_values, "computed": stored.values}[layer]
        hides = not caller.may(READ_VALUES)
        if not hides and not self._settings.mask_values:
            return Values(stored.revision, layer, values)

        def masked() -> dict[str, Any]:
            text = compact_json(values)
            found: dict[str, Any] = orjson.loads(hide_values(text) if hides else mask_values(text))
            return found

        return Values(stored.revision, layer, await off_loop(masked, size=len(stored.manifest)))

    async def show_manifest(self, caller: Caller, place: Place, *, revision: int | None) -> StoredText:
        """Return the rendered objects, without hooks."""
        caller.require("cce:release:get")
        stored = await self._details.find_stored(caller, place, revision)
        return StoredText(stored.revision, await _shown(caller, stored, stored.manifest, hide_in_manifest))

    async def show_notes(self, caller: Caller, place: Place, *, revision: int | None) -> StoredText:
        """Return what the chart says to the user."""
        caller.require("cce:release:get")
        stored = await self._details.find_stored(caller, place, revision)
        return StoredText(stored.revision, await _shown(caller, stored, stored.notes, _hide_in_text))

    async def show_hooks(self, caller: Caller, place: Place, *, revision: int | None) -> StoredHooks:
        """Return the hooks, with their last runs."""
        caller.require("cce:release:get")
        stored = await self._details.find_stored(caller, place, revision)
        hooks = await off_loop(lambda: decode_hooks(stored.hooks_json), size=len(stored.hooks_json))
        return StoredHooks(stored.revision, await _shown(caller, stored, hooks, _hide_in_hooks))


def masks_of_stored(*revisions: StoredRelease) -> Masks:
    """Return masks for the values of these revisions of a release, prepared; takes a while."""
    values = {f"{number}": [one.values, one.config] for number, one in enumerate(revisions)}
    public = {text for one in revisions for text in (one.name, one.namespace, one.target_namespace)}
    return masks_of(values=values, public=public).prepare()


async def _shown(caller: Caller, stored: StoredRelease, part: Shown, hide: Callable[[Shown, Masks], Shown]) -> Shown:
    if caller.may(READ_VALUES):
        return part
    return await in_masking_thread(lambda: hide(part, masks_of_stored(stored)))


def _hide_in_text(text: str, masks: Masks) -> str:
    return masks.apply(text)


def _hide_in_hooks(hooks: list[StoredHook], masks: Masks) -> list[StoredHook]:
    return [msgspec.structs.replace(hook, manifest=hide_in_manifest(hook.manifest, masks)) for hook in hooks]
