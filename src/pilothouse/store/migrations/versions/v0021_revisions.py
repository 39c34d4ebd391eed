"""A revision has 64 bits, as it has for Helm and in the index."""

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for column in ("revision", "base_revision", "restore_revision", "undo_revision"):
        op.alter_column("operations", column, type_=sa.BigInteger(), existing_type=sa.Integer())
