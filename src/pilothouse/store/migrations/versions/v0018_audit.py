"""The audit says who, from where and how it went, and takes no changes; keys have an end and a last use."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

# Whoever owns the table could take the trigger off; whoever may only write its rows can neither change nor delete them.
_REFUSE = """
CREATE OR REPLACE FUNCTION refuse_audit_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF TG_OP = 'DELETE' AND current_setting('pilothouse.audit_retention', true) = 'on'
     AND OLD.at < clock_timestamp() - interval '1 day' THEN
    RETURN OLD;
  END IF;
  RAISE EXCEPTION 'the audit is append-only: % is refused', TG_OP USING ERRCODE = 'insufficient_privilege';
END $$
"""
# With the rights of its owner, so that a role which may only add and read rows can call it. Rows are numbered as they
# are written: the lowest numbers are the oldest, without an index on the time.
_EXPIRE = """
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
END $$
"""


def upgrade() -> None:
    for name, comment in (
        ("domain_id", "whose administrators may see the row"),
        ("user_name", None),
        ("project_name", None),
        ("target_name", None),
        ("source", "the address that the request came from"),
        ("detail", None),
    ):
        op.add_column("audit", sa.Column(name, sa.Text(), server_default="", nullable=False, comment=comment))
    op.add_column(
        "audit",
        sa.Column(
            "outcome",
            sa.Text(),
            server_default="done",
            nullable=False,
            comment="done, denied (role) or failed (proof)",
        ),
    )
    op.add_column(
        "audit",
        sa.Column(
            "times", sa.Integer(), server_default="1", nullable=False, comment="how often, from the time of the row on"
        ),
    )
    op.execute("UPDATE audit a SET domain_id = u.domain_id, user_name = u.name FROM users u WHERE u.id = a.user_id")
    op.execute(
        "UPDATE audit a SET domain_id = p.domain_id, project_name = p.name FROM projects p WHERE p.id = a.project_id"
    )
    op.create_index("ix_audit_of_domain", "audit", ["domain_id", "id"])
    op.create_index("ix_audit_failed", "audit", ["id"], postgresql_where=sa.text("outcome = 'failed'"))
    op.execute(_REFUSE)
    schema = op.get_bind().scalar(sa.text("SELECT quote_ident(current_schema())"))
    op.execute(_EXPIRE.format(schema=schema))
    op.execute(
        "CREATE TRIGGER audit_is_append_only BEFORE UPDATE OR DELETE ON audit"
        " FOR EACH ROW EXECUTE FUNCTION refuse_audit_change()"
    )
    op.execute(
        "CREATE TRIGGER audit_is_not_emptied BEFORE TRUNCATE ON audit"
        " FOR EACH STATEMENT EXECUTE FUNCTION refuse_audit_change()"
    )
    op.add_column("access_keys", sa.Column("expires_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "access_keys", sa.Column("last_used_at", sa.DateTime(timezone=True), nullable=True, comment="to the minute")
    )
    op.add_column(
        "tokens",
        sa.Column("proven_at", sa.DateTime(timezone=True), nullable=True, comment="when a password was given for it"),
    )
    op.execute("UPDATE tokens SET proven_at = issued_at")
    op.alter_column("tokens", "proven_at", nullable=False)
