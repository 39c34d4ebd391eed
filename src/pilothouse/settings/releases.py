"""What releases look like."""

from typing import Literal

from pydantic import Field

from pilothouse.settings.group import MIB, Group


class HookSettings(Group):
    """Defaults for hooks if the request does not say ``include_hooks: true``; the vendor's default is no hooks."""

    on_update: bool = Field(False, description="upgrade and rollback run hooks, like helm; no_hooks takes precedence")
    on_delete: bool = Field(False, description="uninstall runs hooks, like helm")


class ReleaseSettings(Group):
    """Presentation of releases, where the vendor leaves it undefined and installations differ."""

    mask_values: bool = Field(
        False, description="show ****** for values whose name contains password, secret, token or key"
    )
    superseded_as_unknown: bool = Field(
        False, description="report UNKNOWN instead of SUPERSEDED, which the vendor's list of statuses lacks"
    )
    hide_addons: bool = Field(False, description="omit releases named cceaddon-* from lists")
    other_managers: Literal["refuse", "warn", "ignore"] = Field(
        "refuse",
        description="a change of a release that Flux, Argo CD or an operator manages: 403, an event, or nothing",
    )


class PlanSettings(Group):
    """Plans: changes of releases that somebody reviews before they are applied."""

    seconds: float = Field(3600.0, ge=1, le=7 * 24 * 3600.0, description="how long a plan can be applied, and is kept")
    per_project: int = Field(1000, ge=1, description="unexpired plans of a project")
    bytes_per_project: int = Field(
        256 * MIB, ge=1, description="their size: each holds manifest, values and changed objects, packed"
    )
