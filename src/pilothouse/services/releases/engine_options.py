"""The part of the engine's requests that an order alone decides, for dry runs and for the worker alike."""

from typing import Any, TypedDict

from pilothouse.engine.protocol import ValuesLayer
from pilothouse.services.releases.commands import Crds, InstallCommand, UpgradeCommand


class ChartOptions(TypedDict):
    """What requests that render a chart have in common."""

    values: dict[str, Any]
    layers: tuple[ValuesLayer, ...]
    disable_hooks: bool
    crds: Crds
    skip_schema_validation: bool
    take_ownership: bool
    force_conflicts: bool
    force_replace: bool


class UpgradeOptions(ChartOptions):
    """The same of an upgrade."""

    reset_values: bool
    reuse_values: bool
    reset_then_reuse_values: bool
    remove_namespace: bool


def chart_options(order: InstallCommand | UpgradeCommand) -> ChartOptions:
    """Return what the order says of values, hooks, CRDs and existing objects."""
    return ChartOptions(
        values=order.values,
        layers=order.layers,
        disable_hooks=order.disable_hooks,
        crds=order.crds,
        skip_schema_validation=order.skip_schema_validation,
        take_ownership=order.options.take_ownership,
        force_conflicts=order.options.force_conflicts,
        force_replace=order.options.force_replace,
    )


def upgrade_options(order: UpgradeCommand) -> UpgradeOptions:
    """Return the same of an upgrade, and what it says of the values and objects of now."""
    return UpgradeOptions(
        **chart_options(order),
        reset_values=order.reset_values,
        reuse_values=order.reuse_values,
        reset_then_reuse_values=order.reset_then_reuse_values,
        remove_namespace=order.remove_namespace,
    )
