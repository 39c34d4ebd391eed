"""What is begun beyond the database has a row in the audit before and at its end; how it ended is kept like all deeds.

A program of the version before cannot list rows that are ``started`` with the native API until it is replaced. The
constraint is not validated, which would read the whole table under its lock: every older row has one of the old words.
"""

from alembic import op

revision = "0047"
down_revision = "0046"

_SQL = """
ALTER TABLE audit DROP CONSTRAINT ck_audit_outcome;
ALTER TABLE audit ADD CONSTRAINT ck_audit_outcome CHECK (outcome IN ('done', 'denied', 'failed', 'started')) NOT VALID;
COMMENT ON COLUMN audit.outcome IS 'done, denied (role), failed, or started';

CREATE OR REPLACE FUNCTION expire_audit(older_seconds double precision, failed_seconds double precision, most integer)
RETURNS bigint LANGUAGE plpgsql SECURITY DEFINER SET search_path = {schema}, pg_catalog, pg_temp AS $$
DECLARE
  gone bigint;
BEGIN
  PERFORM set_config('pilothouse.audit_retention', 'on', true);
  WITH old AS (
    SELECT id FROM (SELECT id, at FROM audit ORDER BY id LIMIT most) oldest
    WHERE at < clock_timestamp() - make_interval(secs => greatest(older_seconds, 86400))
    UNION
    -- failed proofs; what somebody began and could not do is kept like what was done
    SELECT id FROM (
      SELECT id, at FROM audit WHERE outcome = 'failed' AND NOT starts_with(action, 'cce:') ORDER BY id LIMIT most
    ) oldest
    WHERE at < clock_timestamp() - make_interval(secs => greatest(failed_seconds, 86400))
  ), deleted AS (
    DELETE FROM audit WHERE id IN (SELECT id FROM old) RETURNING 1
  ) SELECT count(*) INTO gone FROM deleted;
  PERFORM set_config('pilothouse.audit_retention', 'off', true);
  RETURN gone;
END $$;

UPDATE schema_compatibility SET oldest_program = '0043'
"""


def upgrade() -> None:
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    op.execute(_SQL.replace("{schema}", schema))
