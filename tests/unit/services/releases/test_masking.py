"""What callers who may not read values are shown of a release's manifest, hooks and notes."""

import dataclasses
from datetime import UTC, datetime
from typing import Any

import pytest
import yaml

from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.redaction import WITHHELD, Masks
from pilothouse.services.releases.masking import LARGEST_MANIFEST, MOST_DOCUMENTS, hide_in_manifest, hide_in_notes

NOW = datetime(2026, 1, 1, tzinfo=UTC)
SECRET = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "stringData": {"word": "hunter-two"}}
MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"word": "hunter-two"}}
STORED = StoredRelease(
    namespace="shop",
    name="web",
    revision=1,
    status="deployed",
    description="",
    chart_name="c",
    chart_version="1.0.0",
    values={"password": "old-and-secret"},
    chart_values={},
    config={"password": "old-and-secret"},
    manifest="",
    first_deployed=NOW,
    last_deployed=NOW,
    labels={},
    uid="u",
    resource_version="1",
    target_namespace="shop",
    created_at=NOW,
    acted_at=NOW,
)


def listed(kind: str, *items: Any) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": kind, "items": list(items)}


def without_kind(one: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in one.items() if key != "kind"}


@pytest.mark.parametrize(
    "document",
    [
        listed("List", SECRET, MAP),
        listed("SecretList", SECRET),
        listed("SecretList", without_kind(SECRET)),
        listed("ConfigMapList", without_kind(MAP)),
        listed("ConfigMapList", MAP | {"kind": ""}),
        listed("List", listed("List", SECRET), listed("SecretList", without_kind(SECRET))),
        listed("List", "hunter-two"),
    ],
)
def test_objects_in_lists_are_hidden_like_others(document: dict[str, Any]):
    hidden = hide_in_manifest(yaml.safe_dump(document), Masks())
    assert "hunter-two" not in hidden
    shown = yaml.safe_load(hidden)
    assert (shown["kind"], len(shown["items"])) == (document["kind"], len(document["items"]))


def test_a_list_keeps_what_is_no_secret():
    hidden = hide_in_manifest(yaml.safe_dump(listed("List", SECRET)), Masks())
    assert yaml.safe_load(hidden)["items"][0]["metadata"] == {"name": "s"}


@pytest.mark.parametrize("manifest", ["#" * (LARGEST_MANIFEST + 1), "---\n" * MOST_DOCUMENTS])
def test_a_manifest_that_takes_long_to_mask_is_withheld(manifest: str):
    assert hide_in_manifest(manifest, Masks()) == WITHHELD


def test_notes_are_masked_with_the_values_of_their_own_revision():
    stored = dataclasses.replace(STORED, notes="The password is old-and-secret.")
    assert hide_in_notes(stored) == "The password is ***."
    assert hide_in_notes(STORED) == ""
