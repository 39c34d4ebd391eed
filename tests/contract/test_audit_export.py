"""``GET /api/v1/audit`` as JSON lines: all rows that match, in pages that nobody sees."""

import json
from typing import Any

from tests.support.servers import RunningServer
from tests.support.tenants import add_tenant
from tests.support.users import add_person
from tests.support.wire import assert_error

LINES = {"Accept": "application/x-ndjson"}


def export(server: RunningServer, query: str = "") -> list[dict[str, Any]]:
    answer = server.send("GET", f"/api/v1/audit{query}", headers=LINES)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("application/x-ndjson")
    return [json.loads(line) for line in answer.text.splitlines()]


def test_each_line_is_a_row_of_the_list(server: RunningServer):
    tenant = add_tenant(server)
    for _ in range(3):
        add_person(tenant, "readonly")
    query = "?action=iam:*"
    listed = tenant.send("GET", f"/api/v1/audit{query}&limit=500").json()
    assert len(listed) >= 9
    assert export(tenant, f"{query}&limit=1") == listed
    marker = tenant.send("GET", f"/api/v1/audit{query}&limit=4").headers["x-pilothouse-marker"]
    assert export(tenant, f"{query}&marker={marker}") == listed[4:]
    assert export(tenant, "?user=nobody-of-this-name") == []


def test_it_takes_the_right_of_the_list(server: RunningServer):
    reader = add_person(server, "readonly").server
    answer = reader.send("GET", "/api/v1/audit", headers=LINES)
    assert_error(answer, 403, "CCE.01403001", "lacks the permission pilothouse:audit:read")
