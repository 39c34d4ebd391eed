"""Unit tests reach this machine only, and a test that hangs is ended."""

import socket
import time

import pytest


def test_a_unit_test_connects_to_no_other_machine():
    with socket.socket() as outside, pytest.raises(UserWarning, match=r"192\.0\.2\.1"):
        outside.connect(("192.0.2.1", 80))


def test_a_unit_test_connects_to_this_machine():
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        pass


@pytest.mark.timeout(0.2)
@pytest.mark.xfail(strict=True, raises=pytest.fail.Exception)
def test_a_test_that_hangs_is_ended():
    time.sleep(30)


@pytest.mark.timeout(0.2)
@pytest.mark.xfail(strict=True, raises=pytest.fail.Exception)
async def test_a_test_that_hangs_in_the_loop_is_ended():
    time.sleep(30)  # noqa: ASYNC251 - that is what is tried
