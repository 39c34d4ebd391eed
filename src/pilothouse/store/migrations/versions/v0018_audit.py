"""The audit says who, from where and how it went, and takes no changes; keys have an end and a last use."""

from alembic import op

revision = "0018"
down_revision = "0017"


_SQL = """
ALTER TABLE audit
  ADD COLUMN domain_id text NOT NULL DEFAULT '',
  ADD COLUMN user_name text NOT NULL DEFAULT '',
  ADD COLUMN project_name text NOT NULL DEFAULT '',
  ADD COLUMN target_name text NOT NULL DEFAULT '',
  ADD COLUMN source text NOT NULL DEFAULT '',
  ADD COLUMN detail text NOT NULL DEFAULT '',
  ADD COLUMN outcome text NOT NULL DEFAULT 'done',
  ADD COLUMN times integer NOT NULL DEFAULT 1;
UPDATE audit a SET domain_id = u.domain_id, user_name = u.name FROM users u WHERE u.id = a.user_id;
UPDATE audit a SET domain_id = p.domain_id, project_name = p.name FROM projects p WHERE p.id = a.project_id;
CREATE INDEX ix_audit_of_domain ON audit (domain_id, id);
CREATE INDEX ix_audit_failed ON audit (id) WHERE outcome = 'failed';

-- Who owns the table could take the trigger off; who may only write its rows can neither change nor delete them.
CREATE OR REPLACE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' AND current_setting('pilothouse.audit_retention', true) = 'on'
     AND OLD.at < clock_timestamp() - interval '1 day' THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION 'the audit is append-only: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$;
CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON audit
  FOR EACH ROW EXECUTE FUNCTION refuse_audit_change();
CREATE TRIGGER audit_is_not_emptied BEFORE TRUNCATE ON audit
  FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change();

-- With the rights of its owner, so that a role which may only add and read rows can call it. Rows are numbered as they
-- are written: the lowest numbers are the oldest, without an index on the time.
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
    SELECT id FROM (SELECT id, at FROM audit WHERE outcome = 'failed' ORDER BY id LIMIT most) oldest
    WHERE at < clock_timestamp() - make_interval(secs => greatest(failed_seconds, 86400))
  ), deleted AS (
    DELETE FROM audit WHERE id IN (SELECT id FROM old) RETURNING 1
  ) SELECT count(*) INTO gone FROM deleted;
  PERFORM set_config('pilothouse.audit_retention', 'off', true);
  RETURN gone;
END $$;

ALTER TABLE access_keys ADD COLUMN expires_at timestamptz, ADD COLUMN last_used_at timestamptz;
ALTER TABLE tokens ADD COLUMN proven_at timestamptz;
UPDATE tokens SET proven_at = issued_at;
ALTER TABLE tokens ALTER COLUMN proven_at SET NOT NULL
"""


def upgrade() -> None:
    schema = op.get_bind().exec_driver_sql("SELECT quote_ident(current_schema())").scalar_one()
    op.execute(_SQL.replace("{schema}", schema))
