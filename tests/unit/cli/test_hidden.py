"""``--hide-secret``: a plan for programs without the Secrets, and without what they are made of."""

import json
from pathlib import Path
from typing import Any

import pytest

from pilothouse.cli.hidden import hide_secrets
from tests.support.answers import answering

MAP = "---\n# Source: a/templates/map.yaml\nkind: ConfigMap\ndata: {of: Secret}\n"
HIDDEN = "---\n# Source: a/templates/secret.yaml\n# HIDDEN: The Secret output has been suppressed\n"
BEGIN = "---\n# Source: a/templates/secret.yaml\n"


@pytest.mark.parametrize(
    "secret",
    [
        'apiVersion: v1\nkind: "Secret"\nstringData: {password: hunter2}\n',
        "{kind: Secret, data: {password: hunter2}}\n",
        "kind: List\nitems:\n- kind: Secret\n  stringData: {password: hunter2}\n",
        "kind: Secret\ndata: {password: hunter2\n",
    ],
    ids=["plain", "flow", "list", "broken"],
)
def test_a_secret_is_hidden_as_helm_hides_it(secret: str):
    hook = {"name": "job", "manifest": "kind: Secret\ndata: {password: hunter2}\n"}
    plan: dict[str, Any] = {
        "manifest": f"{MAP}{BEGIN}{secret}{MAP}",
        "values": {"password": "hunter2", "list": [1, {"a": None}], "empty": {}},
        "hooks": [hook],
    }

    found = hide_secrets(plan)

    assert found["manifest"] == f"{MAP}{HIDDEN}{MAP}"
    assert found["values"] == {"password": "******", "list": ["******", {"a": "******"}], "empty": {}}
    assert "hunter2" not in json.dumps(found)
    assert "hunter2" in plan["manifest"]


@pytest.mark.parametrize(
    ("verb", "flags"), [("install", ["--dry-run"]), ("upgrade", ["-i", "--dry-run"]), ("plan", [])]
)
@pytest.mark.parametrize("output", ["json", "yaml"])
def test_every_plan_for_programs_hides_them(verb: str, flags: list[str], output: str, tmp_path: Path):
    secret = "kind: Secret\nstringData: {password: hunter2}\n"
    plan = {"manifest": f"{BEGIN}{secret}", "hooks": [], "values": {"a": "hunter2"}, "findings": [], "refusals": []}
    path = "POST /api/v1/clusters/demo/namespaces/shop/releases/web/plan"
    with answering(tmp_path, {path: plan}) as server:
        words = [verb, "web", "0b6f5d1e-0000-4000-8000-000000000001", *flags, "-o", output]
        shown, hidden = server.typed(*words), server.typed(*words, "--hide-secret")

    assert (shown.returncode, hidden.returncode) == (0, 0), hidden.stderr
    assert ("hunter2" in shown.stdout, "hunter2" in hidden.stdout) == (True, False)
    assert "# HIDDEN: The Secret output has been suppressed" in hidden.stdout


def test_without_a_dry_run_it_is_refused(tmp_path: Path):
    with answering(tmp_path, {}) as server:
        said = server.typed("upgrade", "-i", "web", "0b6f5d1e-0000-4000-8000-000000000001", "--hide-secret")

    assert said.returncode == 2
    assert "--hide-secret: it is for --dry-run" in said.stderr
    assert not server.asked
