"""Rows of a list become what ``ReleaseSummary`` declares, without that model."""

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from pydantic import TypeAdapter

from pilothouse.api.v1.release_lists import as_json, table_json
from pilothouse.api.v1.release_models import ReleaseSummary
from pilothouse.store.release_lists import RELEASE_FIELDS, ReleaseItem

MODEL = TypeAdapter(list[ReleaseSummary])
USUAL = ReleaseItem(
    cluster_id="9ea1",
    cluster_name="prod",
    namespace="shop",
    name="web",
    revision=3,
    status="deployed",
    chart_name="nginx",
    chart_version="1.2.3",
    app_version="",
    updated_at=datetime(2026, 11, 30, 5, 0, 0, 123456, tzinfo=UTC),
    uninstalled_at=None,
    manager="Flux HelmRelease web",
    operation_id="",
    age_seconds=1.25,
    drifted=False,
    source="",
    source_removed_at=None,
    update_available="2.0.0",
    update_deprecated=True,
)
_TIMES = {"updated_at", "uninstalled_at", "source_removed_at"}
ODD: list[dict[str, Any]] = [
    {},
    {"app_version": 'a"\\\n\x1f\x7f\u2028é你😀', "manager": "</script>"},
    {"age_seconds": None, "drifted": None},
    {"age_seconds": -0.01, "drifted": True, "revision": 0},
    {"age_seconds": 1234567.06},
    {"updated_at": datetime(1970, 1, 1, tzinfo=timezone(timedelta(hours=8)))},
    {"updated_at": datetime(2026, 1, 1, 0, 0, 0, 999, tzinfo=UTC)},
    {"source": "team", "source_removed_at": datetime(2026, 1, 1, 0, 0, 0, 999, tzinfo=UTC)},
    {"uninstalled_at": datetime(2026, 1, 1, 0, 0, 0, 999, tzinfo=UTC)},
]


@pytest.mark.parametrize(
    "names", [RELEASE_FIELDS, ("cluster_id", "name"), ("name", "updated_at", "age_seconds")], ids=len
)
def test_the_answer_is_the_models(names: tuple[str, ...]):
    items = [ReleaseItem(**{**vars(USUAL), **odd}) for odd in ODD]
    rows = [[*(getattr(item, name) for name in names), "what the list is sorted by"] for item in items]
    declared = MODEL.dump_json(MODEL.validate_python(items, from_attributes=True), include={"__all__": set(names)})
    assert orjson.loads(as_json(rows, names)) == orjson.loads(declared)


def as_time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)


@pytest.mark.parametrize("names", [RELEASE_FIELDS, ("cluster_id", "name"), ("age_seconds", "name")], ids=len)
def test_a_table_has_the_same_values(names: tuple[str, ...]):
    items = [ReleaseItem(**{**vars(USUAL), **odd}) for odd in ODD]
    rows = [(*(getattr(item, name) for name in names), "what the list is sorted by") for item in items]
    table = orjson.loads(table_json(rows, names))
    assert table["columns"] == list(names)
    views = [dict(zip(names, row, strict=True)) for row in table["rows"]]
    for view, item in zip(views, items, strict=True):
        for name in _TIMES & view.keys():
            assert as_time(view.pop(name)) == getattr(item, name)
    without_time = [name for name in names if name not in _TIMES]
    declared = MODEL.dump_json(MODEL.validate_python(items, from_attributes=True), include={"__all__": {*without_time}})
    assert views == orjson.loads(declared)


def test_the_models_fields_are_the_lists():
    assert tuple(ReleaseSummary.model_fields) == RELEASE_FIELDS
