"""Which keys the charts of a source and of a project are verified with, and who signed them."""

from alembic import op

revision = "0042"
down_revision = "0041"


def upgrade() -> None:
    op.execute("""
ALTER TABLE chart_sources
  ADD COLUMN verification text NOT NULL DEFAULT 'none'
    CONSTRAINT ck_chart_sources_verification CHECK (verification IN ('none', 'pgp', 'cosign')),
  ADD COLUMN verification_keys text NOT NULL DEFAULT '',
  ADD COLUMN trusted text[] NOT NULL DEFAULT '{}';
CREATE TABLE project_trust (
  project_id text CONSTRAINT pk_project_trust PRIMARY KEY
    CONSTRAINT fk_project_trust_project_id_projects REFERENCES projects (id) ON DELETE CASCADE,
  verified_only boolean NOT NULL DEFAULT false,
  verification_keys text NOT NULL DEFAULT '',
  trusted text[] NOT NULL DEFAULT '{}'
);
CREATE TABLE chart_verifications (
  project_id text NOT NULL
    CONSTRAINT fk_chart_verifications_project_id_projects REFERENCES projects (id) ON DELETE CASCADE,
  digest text NOT NULL,
  fingerprint text NOT NULL,
  kind text NOT NULL CONSTRAINT ck_chart_verifications_kind CHECK (kind IN ('pgp', 'cosign')),
  signed_by text NOT NULL DEFAULT '',
  signed_at timestamptz,
  signed_digest text NOT NULL,
  source text NOT NULL DEFAULT '',
  provenance text NOT NULL DEFAULT '',
  of_revision boolean NOT NULL DEFAULT false,
  verified_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  CONSTRAINT pk_chart_verifications PRIMARY KEY (project_id, digest, fingerprint)
);
CREATE INDEX ix_chart_verifications_verified_at ON chart_verifications (verified_at);
-- an older program would install what this one has to refuse
UPDATE schema_compatibility SET oldest_program = '0042'
""")
