"""``pilothouse user add``: a password that was generated is never lost, whatever happens behind it."""

from pathlib import Path

import pytest

from pilothouse.errors import DatabaseUnavailable, PilothouseError
from tests.support.answers import answering

USER = {"id": "0" * 32, "name": "bob", "password": "generated-once"}


@pytest.mark.parametrize("failure", [ConnectionResetError(), DatabaseUnavailable("the database does not answer")])
def test_a_password_is_told_if_the_user_stays_without_its_role(failure: OSError | PilothouseError, tmp_path: Path):
    with answering(tmp_path, {"POST /api/v1/users": USER, f"POST /api/v1/users/{'0' * 32}/roles": failure}) as server:
        done = server.typed("user", "add", "bob", "--role", "readonly")

    assert done.returncode != 0
    assert "the user bob is there without that role, with the password generated-once" in done.stderr
