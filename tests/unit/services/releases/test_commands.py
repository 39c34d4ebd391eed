"""Orders as the versions up to now sealed them, and as later ones may."""

import base64
import json
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import orjson
import pytest

from pilothouse.auth.sealing import MasterKeys
from pilothouse.engine.protocol import ValuesLayer
from pilothouse.errors import UnreadableCommand
from pilothouse.services.releases import commands
from pilothouse.services.releases.commands import (
    HelmOptions,
    InstallCommand,
    Order,
    RollbackCommand,
    RunTestsCommand,
    UninstallCommand,
    UpgradeCommand,
    open_order,
    open_shown,
    seal_command,
    shown_of,
)
from pilothouse.store.operations import OperationRow

KEYS = MasterKeys({b"gold": bytes(range(32))})
#: Written by the code of its time with these keys; a row is added with every new form, and none is ever changed.
GOLDEN: list[dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "sealed_orders.json").read_text())


def row(operation_id: str, request: bytes, shown: bytes | None) -> OperationRow:
    columns = dict.fromkeys(one.name for one in fields(OperationRow))
    values: dict[str, Any] = {**columns, "id": operation_id, "request_sealed": request, "shown_sealed": shown}
    return OperationRow(**values)


def sealed_as(plain: dict[str, Any]) -> OperationRow:
    return row("one", KEYS.seal(json.dumps(plain, default=vars).encode(), context="operation:one"), None)


def order() -> InstallCommand:
    return InstallCommand(
        values={"a": 1}, merged_values={"a": 1, "b": 2}, disable_hooks=True, replace=False, wait="none"
    )


@pytest.mark.parametrize("golden", GOLDEN, ids=[f"{one['form']}: {one['action']}" for one in GOLDEN])
def test_every_form_up_to_now_is_read_as_it_was_meant(golden: dict[str, Any]):
    request, shown = (base64.b64decode(text) if text else None for text in (golden["request"], golden["shown"]))
    assert request is not None
    found = row(golden["operation"], request, shown)
    read = open_order(found, keys=KEYS)
    assert commands.action_of(read) == golden["action"]
    assert {name: _plain(getattr(read, name)) for name in golden["order"]} == golden["order"]
    assert open_shown(found, keys=KEYS) == shown_of(read)
    # what its form did not know is as it was without it
    later = {one.name: one.default for one in fields(read) if one.name not in golden["order"]}
    assert {name: getattr(read, name) for name in later} == later


def test_every_action_has_rows_of_every_form():
    assert Counter(one["action"] for one in GOLDEN) == {"install": 7, "upgrade": 6, "rollback": 6, "uninstall": 6}


async def test_what_is_sealed_now_is_read_again_and_says_nothing_of_defaults():
    for one in (order(), replace(order(), crds="skip")):
        sealed = await seal_command(one, keys=KEYS, operation_id="one")
        assert open_order(row("one", sealed.request, sealed.shown), keys=KEYS) == one
        written = json.loads(KEYS.unseal(sealed.request, context="operation:one"))
        assert ("crds" in written) == (one.crds != "create")
        assert "skip_schema_validation" not in written


@pytest.mark.parametrize(
    "changes",
    [
        {"layers": (ValuesLayer("set", "a=1000000", "values[0]"),)},
        {"options": HelmOptions(take_ownership=True, labels={"team": "null"}, history_max=0)},
    ],
    ids=["layers", "options"],
)
async def test_what_older_workers_may_not_pass_over_says_so(changes: dict[str, Any]):
    """One that knows neither would install without the values, or refuse what was to be taken."""
    changed = replace(order(), **changes)
    sealed = await seal_command(changed, keys=KEYS, operation_id="one")
    assert json.loads(KEYS.unseal(sealed.request, context="operation:one"))["version"] == 2
    assert open_order(row("one", sealed.request, sealed.shown), keys=KEYS) == changed
    plain = await seal_command(order(), keys=KEYS, operation_id="one")
    assert "version" not in json.loads(KEYS.unseal(plain.request, context="operation:one"))


def test_a_member_of_the_options_can_need_a_later_version_than_the_options():
    table = {2: frozenset({"options"}), 3: frozenset({"options.checks"})}

    assert commands.needed_version({"options": HelmOptions(labels={"team": "a"})}, table) == 2
    assert commands.needed_version({"options": HelmOptions(checks=("test",))}, table) == 3
    assert commands.needed_version({"options": HelmOptions()}, {3: frozenset({"options.checks"})}) == 0


def test_what_older_workers_may_not_pass_over_is_a_field_of_a_command():
    kinds = (InstallCommand, UpgradeCommand, RollbackCommand, UninstallCommand, RunTestsCommand)
    known = {member.name for kind in kinds for member in fields(kind)}
    known |= {f"options.{member.name}" for member in fields(HelmOptions)}

    assert frozenset().union(*commands._FIRST_READ_BY.values()) - known == set()


def test_what_a_newer_version_wrote_beside_is_passed_over():
    plain = {"action": "install", "version": 1, "made_up_later": {"a": 1}, **vars(order())}
    assert open_order(sealed_as(plain), keys=KEYS) == order()


@pytest.mark.parametrize(
    ("different", "cause"),
    [
        ({"version": 4}, r"cannot be read: a newer Pilothouse wrote it \(version 4, this one reads 3\); upgrade"),
        ({"version": "later"}, "not supported between"),
        ({"action": "freeze"}, "'freeze' is not a valid Action"),
        ({"action": None}, "None is not a valid Action"),
        ({"wait": "long"}, r"Invalid enum value 'long' - at `\$\.wait`"),
        ({"values": ["secret"]}, r"Expected `object`, got `array` - at `\$\.values`$"),
    ],
)
def test_a_newer_order_and_one_of_another_kind_say_why_they_are_not_read(different: dict[str, Any], cause: str):
    with pytest.raises(UnreadableCommand, match=cause):
        open_order(sealed_as({"action": "install", **vars(order()), **different}), keys=KEYS)


def _plain(value: object) -> object:
    return orjson.loads(orjson.dumps(value))


def test_an_order_shows_no_values():
    shown: Order = replace(order(), values={"password": "secret"}, merged_values={"password": "secret"})
    assert "secret" not in repr(shown)


def test_values_that_no_text_may_tell_are_stored_once_and_not_beside_those_that_were_sent():
    old, new = {"a": "older-value"}, {"a": "newer-value"}
    assert commands.hidden_values(new, old, dict(old)) == (new, old)
    assert commands.hidden_values(old, old, sent=old) == ({},)
    assert commands.hidden_values(old, new, sent=dict(old)) == (new,)
