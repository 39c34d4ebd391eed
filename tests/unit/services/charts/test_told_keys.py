"""What the audit tells of keys that are trusted: which way charts are verified comes first, and nothing is cut off."""

from dataclasses import replace
from typing import Any

import pytest

from pilothouse.services.charts.trust import describe_keys
from pilothouse.services.sources.records import describe_change
from pilothouse.store.sources import SourceRow

MANY = [f"{number:040x}" for number in range(200)]
SOURCE = SourceRow(
    id="s", project_id="p", name="s", kind="oci", url="oci://x.test", ca="", sync_seconds=0, credentials_sealed=None,
    etag="", last_modified="", synced_at=None, problem="", failed_at=None, pushed_at=None, due_at=None,
    syncing_until=None, created_at=None,  # type: ignore[arg-type]  # nobody asks
)  # fmt: skip
VERIFIED = replace(SOURCE, verification="pgp", trusted=["a", "b"])


@pytest.mark.parametrize(
    ("before", "now", "told"),
    [
        (["a", "b"], ["b", "c"], "trusts c from now on; no longer a"),
        ([], ["a"], "trusts a from now on"),
        (["a"], [], "no longer a"),
        (["a"], ["a"], "the same as before"),
        ([], MANY, f"trusts {', '.join(MANY[:5])} and 195 more from now on"),
    ],
)
def test_what_is_trusted_more_or_no_longer_is_told(before: list[str], now: list[str], told: str):
    assert describe_keys(before, now) == told


@pytest.mark.parametrize(
    ("row", "changes", "told"),
    [
        (
            SOURCE,
            {"ca": "x", "credentials_sealed": b"x", "verification": "pgp", "trusted": ["a"]},
            "verification pgp (it was none): trusts a; credentials of user joe; ca",
        ),
        (VERIFIED, {"verification": "pgp", "trusted": ["b"]}, "keys of pgp: no longer a"),
        (
            VERIFIED,
            {"credentials_sealed": None, "verification": "none", "trusted": []},
            "verification turned off (it was pgp); credentials taken away",
        ),
        (SOURCE, {"verification": "none", "trusted": [], "sync_seconds": 60}, "sync_seconds"),
        (
            SOURCE,
            {"verification": "cosign", "trusted": []},
            "verification cosign (it was none): trusts no key that can sign",
        ),
    ],
)
def test_a_change_of_a_source_is_told(row: SourceRow, changes: dict[str, Any], told: str):
    assert describe_change(row, changes, username="joe") == told
