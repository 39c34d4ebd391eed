"""Orders as the versions up to now sealed them, and as later ones may."""

import base64
import json
from collections import Counter
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import UnreadableCommand
from pilothouse.services.releases import commands
from pilothouse.services.releases.commands import InstallCommand, Order, open_order, open_shown, seal_command, shown_of
from pilothouse.store.operations import OperationRow

KEYS = MasterKeys({b"gold": bytes(range(32))})
#: Written by the code of its time with these keys; a row is added with every new form, and none is ever changed.
GOLDEN: list[dict[str, Any]] = json.loads((Path(__file__).parent / "data" / "sealed_orders.json").read_text())


def row(operation_id: str, request: bytes, shown: bytes | None) -> OperationRow:
    columns = dict.fromkeys(one.name for one in fields(OperationRow))
    values: dict[str, Any] = {**columns, "id": operation_id, "request_sealed": request, "shown_sealed": shown}
    return OperationRow(**values)


def sealed_as(plain: dict[str, Any]) -> OperationRow:
    return row("one", KEYS.seal(json.dumps(plain).encode(), context="operation:one"), None)


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
    assert Counter(one["action"] for one in GOLDEN) == {"install": 6, "upgrade": 5, "rollback": 5, "uninstall": 5}


async def test_what_is_sealed_now_is_read_again_and_says_nothing_of_defaults():
    for one in (order(), replace(order(), crds="skip")):
        sealed = await seal_command(one, keys=KEYS, operation_id="one")
        assert open_order(row("one", sealed.request, sealed.shown), keys=KEYS) == one
        written = json.loads(KEYS.unseal(sealed.request, context="operation:one"))
        assert ("crds" in written) == (one.crds != "create")
        assert "skip_schema_validation" not in written


def test_what_a_newer_version_wrote_beside_is_passed_over():
    plain = {"action": "install", "version": 1, "made_up_later": {"a": 1}, **vars(order())}
    assert open_order(sealed_as(plain), keys=KEYS) == order()


@pytest.mark.parametrize(
    ("different", "cause"),
    [
        ({"version": 2}, r"cannot be read: a newer Pilothouse wrote it \(version 2, this one reads 1\); upgrade"),
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
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value


def test_an_order_shows_no_values():
    shown: Order = replace(order(), values={"password": "secret"}, merged_values={"password": "secret"})
    assert "secret" not in repr(shown)
