"""A new column of the release index begins a new epoch, so that old revisions are decoded once more."""

import re
from pathlib import Path

from pilothouse.store import index_statements, migrations
from pilothouse.store.tables import release_revisions

VERSIONS = Path(next(iter(migrations.__path__))) / "versions"
#: Under the number of the migration that began the epoch: what has been read of Secrets since. A change of these
#: takes ``UPDATE cluster_watches SET epoch = epoch + 1, resource_version = 0`` in the migration, and a line here.
FIRST = {
    *("name", "revision", "problem", "uid", "status", "description", "chart_name", "chart_version"),
    *("first_deployed", "last_deployed", "values_sealed", "values_size"),
}
EPOCHS = {
    "0005": FIRST,
    "0023": FIRST | {"values_text_size"},
    "0026": FIRST | {"values_text_size", "app_version", "manager"},
    "0053": FIRST | {"values_text_size", "app_version", "manager", "deleted_at"},
}
#: Columns of the row that are not read of the Secret.
OTHERS = {
    *("cluster_id", "namespace", "secret", "epoch", "resource_version", "gone_at"),
    *("origin_chart_id", "origin_description", "origin_operation_id", "exposed"),
}


def texts() -> dict[str, str]:
    """Return the migrations by their numbers."""
    return {path.name[1:5]: path.read_text() for path in sorted(VERSIONS.glob("v*.py"))}


def test_what_the_index_reads_of_secrets_is_recorded_for_its_epoch():
    assert set(index_statements.READ_COLUMNS) == list(EPOCHS.values())[-1]
    assert {column.name for column in release_revisions.columns} == list(EPOCHS.values())[-1] | OTHERS


def test_the_migrations_begin_the_epochs_that_are_recorded():
    began = [
        number for number, text in texts().items() if re.search(r"SET epoch = epoch \+ 1, resource_version = 0", text)
    ]
    assert ["0005", *began] == list(EPOCHS)


def test_no_migration_adds_a_column_to_the_index_within_an_epoch():
    adding = {
        number for number, text in texts().items() if re.search(r"ALTER TABLE release_revisions\s+ADD COLUMN", text)
    }
    assert adding
    assert adding <= set(EPOCHS)
