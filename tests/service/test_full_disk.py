"""A full disk: whoever cannot write says that it is not ready, and why, and goes on when there is room."""

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import httpx2
import pytest

from tests.support.servers import monitoring_ports, open_folder, run_server, wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")


@contextmanager
def small_disk(folder: Path) -> Iterator[None]:
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400m,mode=0711", "none", folder], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


@pytest.fixture(scope="module")
def ports() -> dict[str, int]:
    """Return the port that each part is watched at."""
    return monitoring_ports()


@pytest.fixture(scope="module")
def folder(ports: dict[str, int]) -> Iterator[Path]:
    """Yield the folder of a server whose data folder is a disk of its own."""
    variables = {"PILOTHOUSE_MONITORING__PORT": str(ports["api"])}
    with open_folder() as made, small_disk(made / "data"), run_server(made, kubeconfig=None, environment=variables):
        yield made


def ask(port: int, path: str) -> httpx2.Response:
    with httpx2.Client(timeout=12, trust_env=False) as http:
        return http.get(f"http://127.0.0.1:{port}{path}")


def says(port: int, pattern: str) -> bool:
    """Return True if the part's /readyz matches."""
    return re.search(pattern, ask(port, "/readyz").text) is not None


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(1024 * 1024))
    with path.open("ab", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(512))


def test_on_a_full_disk_every_part_says_that_it_is_not_ready_and_why(folder: Path, ports: dict[str, int]):
    for port in ports.values():
        wait_for(partial(says, port, "^ok$"), seconds=60)
    fill(folder / "data" / "full")

    for name in ("api", "worker"):
        wait_for(partial(says, ports[name], "No space left on device"), seconds=40)
    wait_for(partial(says, ports["observer"], "PostgreSQL"), seconds=40)
    assert [ask(port, "/readyz").status_code for port in ports.values()] == [503, 503, 503]
    assert [ask(port, "/livez").status_code for port in ports.values()] == [200, 200, 200]
    metrics = ask(ports["api"], "/metrics").text
    assert "\npilothouse_ready 0.0\n" in metrics
    assert float(re.findall(r"\npilothouse_data_folder_free_bytes (\S+)", metrics)[0]) < 64 * 1024 * 1024
    assert re.search("not_ready.*No space left on device", (folder / "serve.log").read_text())

    (folder / "data" / "full").unlink()

    for port in ports.values():
        wait_for(partial(says, port, "^ok$"), seconds=90)
    assert "\npilothouse_ready 1.0\n" in ask(ports["api"], "/metrics").text
    assert "ready_again" in (folder / "serve.log").read_text()
