"""Which options of a command the audit names because they may destroy what was there."""

from dataclasses import fields, replace
from typing import Any

import pytest

from pilothouse.services.releases.commands import (
    HelmOptions,
    InstallCommand,
    Order,
    RollbackCommand,
    RunTestsCommand,
    UninstallCommand,
    UpgradeCommand,
    destructive_options,
    stand_in,
)

#: Options that take nothing away which the action would leave: a new one belongs here or into the audit row.
HARMLESS = {
    "cascade",
    "checks",
    "cleanup_on_fail",
    "create_namespace",
    "description",
    "disable_hooks",
    "first_deployed",
    "force_conflicts",
    "hidden_values",
    "history_max",
    "keep_history",
    "hooks",
    "labels",
    "only_over",
    "layers",
    "merged_values",
    "options",
    "owns_namespace",
    "planned",
    "recreate",
    "reset_then_reuse_values",
    "reset_values",
    "reuse_values",
    "rollback_on_failure",
    "skip_schema_validation",
    "to_revision",
    "values",
    "wait",
}


@pytest.mark.parametrize("kind", [InstallCommand, UpgradeCommand, RollbackCommand, UninstallCommand])
def test_every_option_is_harmless_or_named(kind: type[Order]):
    action = kind.__name__.removesuffix("Command").lower()
    plain = vars(stand_in(action))
    for option in fields(kind):
        if option.name not in HARMLESS:
            wanted = "replace" if option.name == "crds" else True
            assert option.name in destructive_options(kind(**{**plain, option.name: wanted})), option.name


@pytest.mark.parametrize("action", ["install", "upgrade", "rollback"])
def test_so_is_every_option_of_helm(action: str):
    order = stand_in(action)
    assert not isinstance(order, UninstallCommand | RunTestsCommand)
    for option in fields(HelmOptions):
        if option.name not in HARMLESS:
            asked: dict[str, Any] = {option.name: True}
            assert destructive_options(replace(order, options=HelmOptions(**asked))) == option.name


def test_crds_that_are_only_made_or_left_out_destroy_nothing():
    for action, crds in (("install", "create"), ("upgrade", "skip")):
        order = stand_in(action)
        assert getattr(order, "crds", "") == crds
        assert destructive_options(order) == ""
