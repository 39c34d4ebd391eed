"""The page of a Helm user's tasks: each block does what it says, in its order, for one person in one folder."""

import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.releases import HelmCommand
from tests.support.servers import RunningServer

PAGE = Path(__file__).parents[2] / "docs" / "helm-tasks.md"


def tasks() -> dict[str, list[str]]:
    """The commands below each heading."""
    _, *parts = re.split(r"^## ", PAGE.read_text(), flags=re.MULTILINE)
    return {part.partition("\n")[0]: re.findall(r"^    (.*)$", part, re.MULTILINE) for part in parts}


@pytest.fixture(scope="module")
def place(helm_cli: HelmCommand, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """The folder of the chart, and a namespace that does not exist yet."""
    folder = tmp_path_factory.mktemp("tasks") / "web"
    helm_cli("create", str(folder))
    chart = folder / "Chart.yaml"
    namespace = f"prod-{uuid.uuid4().hex[:6]}"
    # other tests have charts of that name, too
    chart.write_text(chart.read_text().replace("name: web", f"name: web-{namespace}"))
    yield folder, namespace
    for name in helm_cli("list", "-q", "-n", namespace).split():
        helm_cli("uninstall", name, "-n", namespace)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Where ``pilothouse`` is found as it is installed."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "pilothouse").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pilothouse "$@"\n')
    (folder / "pilothouse").chmod(0o755)
    return f"{folder}:{os.environ['PATH']}"


def test_there_are_twenty_tasks_each_with_something_to_type():
    found = tasks()

    assert [heading.partition(".")[0] for heading in found] == [str(number) for number in range(1, 21)]
    assert all(found.values())


def test_every_task_is_done_without_a_wrong_turn(server: RunningServer, place: tuple[Path, str], path: str):
    folder, namespace = place
    environment = {
        "PATH": path,
        "HOME": "/nowhere",
        "PILOTHOUSE_URL": server.url,
        "CLOUD_SDK_AK": server.access_key,
        "CLOUD_SDK_SK": server.secret_key,
    }
    plan = ""
    for heading, commands in tasks().items():
        for command in commands:
            typed = command.replace("-n prod", f"-n {namespace}").replace("web@", f"web-{namespace}@")
            done = subprocess.run(
                ["bash", "-c", typed.replace("$PLAN", plan)],
                env=environment,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                check=False,
                timeout=120,
            )
            assert done.returncode == 0, (heading, typed, done.stderr)
            assert "Traceback" not in done.stderr
            if command.startswith("pilothouse operation show"):  # why the upgrade failed
                assert "ContainersNotReady: simulated as ***" in done.stdout  # values are in no evidence
            found = re.search(r"pilothouse apply (\S+)", done.stdout)
            plan = found[1] if found else plan
