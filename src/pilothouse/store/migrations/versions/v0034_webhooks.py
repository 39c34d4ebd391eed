"""Webhooks, and what is still to be told to each: written with what it is about, by whoever writes that."""

from alembic import op

revision = "0034"
down_revision = "0033"


def upgrade() -> None:
    op.execute("""
CREATE TABLE webhooks (
  id text NOT NULL CONSTRAINT pk_webhooks PRIMARY KEY,
  project_id text NOT NULL CONSTRAINT fk_webhooks_project_id_projects REFERENCES projects (id) ON DELETE CASCADE,
  name text NOT NULL,
  origin text NOT NULL,
  target_sealed bytea NOT NULL,
  format text NOT NULL,
  events jsonb NOT NULL,
  enabled boolean NOT NULL DEFAULT true,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  failures integer NOT NULL DEFAULT 0,
  last_error text NOT NULL DEFAULT '',
  delivered_at timestamptz,
  not_before timestamptz,
  lease_until timestamptz,
  CONSTRAINT uq_webhooks_project_id_name UNIQUE (project_id, name),
  CONSTRAINT ck_webhooks_events CHECK (jsonb_typeof(events) = 'array')
);
CREATE TABLE webhook_deliveries (
  id bigserial NOT NULL CONSTRAINT pk_webhook_deliveries PRIMARY KEY,
  webhook_id text NOT NULL CONSTRAINT fk_webhook_deliveries_webhook_id_webhooks
    REFERENCES webhooks (id) ON DELETE CASCADE,
  event text NOT NULL,
  facts jsonb NOT NULL,
  state text NOT NULL DEFAULT 'pending',
  attempts integer NOT NULL DEFAULT 0,
  status integer,
  error text NOT NULL DEFAULT '',
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  due_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  ended_at timestamptz,
  CONSTRAINT ck_webhook_deliveries_facts CHECK (jsonb_typeof(facts) = 'object'),
  CONSTRAINT ck_webhook_deliveries_state CHECK (state IN ('pending', 'delivered', 'given_up'))
);
CREATE INDEX ix_webhook_deliveries_of_webhook ON webhook_deliveries (webhook_id, id);
CREATE INDEX ix_webhook_deliveries_pending ON webhook_deliveries (webhook_id, due_at) WHERE state = 'pending';
CREATE INDEX ix_webhook_deliveries_ended ON webhook_deliveries (ended_at) WHERE ended_at IS NOT NULL;

-- A trigger, so that no statement that ends an operation can forget it, and none of a version before. A webhook that is
-- being removed is waited for and then left out: its end must not undo that of the operation.
CREATE OR REPLACE FUNCTION tell_operation_ended() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO webhook_deliveries (webhook_id, event, facts)
  SELECT id, 'operation.ended', jsonb_build_object('operation_id', NEW.id) FROM webhooks
  WHERE project_id = NEW.project_id AND enabled AND jsonb_exists(events, 'operation.ended') FOR KEY SHARE;
  RETURN NULL;
END $$;
CREATE TRIGGER operation_end_is_told AFTER UPDATE OF finished_at ON operations
  FOR EACH ROW WHEN (NEW.finished_at IS NOT NULL AND OLD.finished_at IS NULL) EXECUTE FUNCTION tell_operation_ended();
""")
