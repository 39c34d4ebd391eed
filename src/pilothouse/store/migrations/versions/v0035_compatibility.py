"""The oldest program that runs on the schema, so that one of a version before knows whether it may go on."""

from alembic import op

revision = "0035"
down_revision = "0034"


def upgrade() -> None:
    op.execute("""
CREATE TABLE schema_compatibility (oldest_program text NOT NULL CONSTRAINT pk_schema_compatibility PRIMARY KEY);
INSERT INTO schema_compatibility (oldest_program) VALUES ('0035');
""")
