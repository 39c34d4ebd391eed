"""The order of charts' versions."""

from itertools import pairwise

import pytest

from pilothouse.services.releases.versions import is_older

#: As semantic versioning lists them.
ORDER = [
    "1.0.0-99999999999999999999",
    "1.0.0-100000000000000000000",
    "1.0.0-alpha",
    "1.0.0-alpha.1",
    "1.0.0-alpha.beta",
    "1.0.0-beta",
    "1.0.0-beta.2",
    "1.0.0-beta.11",
    "1.0.0-rc.1",
]


@pytest.mark.parametrize(("older", "newer"), [*pairwise([*ORDER, "1.0.0", "v1.2", "1.10.0", "2.0.0-rc.1", "2"])])
def test_versions_are_in_the_order_of_semantic_versioning(older: str, newer: str):
    assert is_older(older, newer)
    assert not is_older(newer, older)


@pytest.mark.parametrize(
    ("one", "other"), [("1.0.0", "1.0.0"), ("1.0.0+a", "v1.0.0+b"), ("1.0.0", "latest"), ("", "1.0.0"), ("1.0.0", "")]
)
def test_the_same_and_what_is_no_version_are_not_older(one: str, other: str):
    assert not is_older(one, other)
