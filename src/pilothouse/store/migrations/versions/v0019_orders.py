"""The order of an operation is dropped when it has ended, but for what is shown of it to somebody."""

from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.execute("""
ALTER TABLE operations ALTER COLUMN request_sealed DROP NOT NULL;
ALTER TABLE operations ADD COLUMN shown_sealed bytea, ADD COLUMN answers_until timestamptz;
-- The workers drop the orders of rows that have ended already, a few at a time: here it would be all at once. How long
-- keys live is a setting; a day is its default.
UPDATE operations SET answers_until = clock_timestamp() + interval '1 day'
  WHERE id IN (SELECT operation_id FROM idempotency_keys);
CREATE INDEX ix_operations_orders ON operations (finished_at)
  WHERE finished_at IS NOT NULL AND (request_sealed IS NOT NULL OR shown_sealed IS NOT NULL)
""")
