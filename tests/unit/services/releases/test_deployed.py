"""Which revisions count as ones that were deployed, and which of them a rollback without a number goes to."""

import asyncio

import pytest

from pilothouse.errors import CorruptRelease
from pilothouse.kubernetes.helm_secrets import StoredRelease
from pilothouse.services.releases.deployed import find_last_deployed, was_deployed
from tests.support.revisions import Revision

FAILED = 'Upgrade "web" failed: resource Job/shop/migrate not ready'


@pytest.mark.parametrize(
    ("status", "description", "failed", "deployed"),
    [
        ("deployed", "Upgrade complete", False, True),
        ("deployed", "Upgrade complete", True, True),  # in its checks
        ("superseded", "Install complete", False, True),
        ("superseded", "Rollback to 3", False, True),
        ("superseded", "The user's own words", False, True),
        ("superseded", "Upgrade complete", True, True),  # its checks failed, and it ran all the same
        ("superseded", FAILED, False, False),
        ("superseded", 'Rollback "web" failed: conflict occurred while applying object', False, False),
        ("superseded", 'Release "web" failed: context deadline exceeded', False, False),
        ("superseded", '*** "web" failed: the word before was a value', False, False),
        ("superseded", 'Upgrade "other" failed: as somebody wrote', False, True),
        ("superseded", "Preparing upgrade", False, False),  # its writer died, and a rollback over it failed
        ("superseded", "Initial install underway", False, False),
        ("uninstalled", "Uninstallation complete", False, True),
        ("uninstalled", "Uninstallation complete", True, False),
        ("failed", FAILED, False, False),
        ("failed", "Upgrade complete", False, False),
        ("pending-upgrade", "Preparing upgrade", False, False),
    ],
)
def test_what_was_deployed_is_told_by_the_record(status: str, description: str, failed: bool, deployed: bool):  # noqa: FBT001
    assert was_deployed("web", status, description, failed=failed) is deployed


@pytest.mark.parametrize(
    ("found", "read", "last"),
    [
        # a failed rollback over a failed upgrade: the deployed one, and nothing is read
        ([Revision(3, "superseded"), Revision(4, "deployed"), Revision(5, "superseded")], [], 4),
        ([Revision(3, "superseded"), Revision(4, "superseded"), Revision(5, "superseded")], [5], 5),
        ([Revision(3, "superseded"), Revision(4, "superseded", description=FAILED), Revision(5, "failed")], [4, 3], 3),
        ([Revision(3, "superseded"), Revision(4, "uninstalled")], [], 4),
        ([Revision(2, "superseded"), Revision(3, "superseded", description="corrupt")], [3, 2], 2),
        ([Revision(2, "superseded"), Revision(3, "superseded", description="gone")], [3, 2], 2),
        ([Revision(3, "failed"), Revision(4, "superseded", description=FAILED)], [4], None),
        ([], [], None),
    ],
)
def test_the_last_one_that_was_deployed_is_found(found: list[Revision], read: list[int], last: int | None):
    asked: list[int] = []

    async def look(revision: int) -> StoredRelease | None:
        asked.append(revision)
        one = next(one for one in found if one.number == revision)
        if one.description == "corrupt":
            raise CorruptRelease("it contains something else")
        return one.stored() if one.description != "gone" else None

    assert asyncio.run(find_last_deployed("web", [one.labels() for one in found], look)) == last
    assert asked == read


def test_what_an_operation_failed_to_write_is_passed_over():
    async def look(_: int) -> StoredRelease | None:
        return Revision(3, "superseded").stored()

    found = [Revision(3, "superseded").labels(), Revision(4, "uninstalled").labels()]
    assert asyncio.run(find_last_deployed("web", found, look, failed={4})) == 3
