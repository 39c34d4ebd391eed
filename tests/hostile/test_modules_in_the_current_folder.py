"""Nothing is imported from the folder that a command is started in: it may be anybody's, and root may stand in it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from pilothouse.cli.serve import module_path
from pilothouse.engine.environment import child_environment
from tests.support.servers import children, open_folder, part, run_server, wait_for

_TRAP = "from pathlib import Path\nPath({mark!r}).touch()\n"
#: Of the standard library, of our dependencies, of what Python looks for by itself; and our own package.
_NAMES = ("orjson", "sitecustomize", "usercustomize", "uvloop", "psycopg", "helm_python", "json", "pilothouse")
#: What the package installs. With ``python -m`` its own first word would be the current folder's.
_PROGRAM = Path(sys.executable).with_name("pilothouse")


@pytest.fixture
def trapped(tmp_path: Path) -> Path:
    """Return a folder whose modules leave a mark when they are imported."""
    folder = tmp_path / "trapped"
    folder.mkdir()
    for name in _NAMES:
        (folder / f"{name}.py").write_text(_TRAP.format(mark=str(tmp_path / f"imported-{name}")))
    return folder


def marks(trapped: Path) -> list[str]:
    return sorted(path.name for path in trapped.parent.glob("imported-*"))


def test_no_part_of_a_server_and_no_engine_child_imports_from_it(trapped: Path):
    with open_folder() as folder, run_server(folder, kubeconfig=None, cwd=trapped, program=[str(_PROGRAM)]) as server:
        wait_for(lambda: children(part(server, "worker")))
        assert server.send("GET", "/v2/charts").status_code == 200
    assert marks(trapped) == []


def test_an_empty_entry_of_the_module_path_is_not_passed_on(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "relative", "/absolute", ""]))
    assert module_path() == {"PYTHONPATH": "/absolute"}


def test_an_engine_child_of_a_command_does_not_either(trapped: Path):
    variables = {name: value for name, value in os.environ.items() if not name.startswith("PILOTHOUSE_")}
    with open_folder() as folder:
        done = subprocess.run(
            [_PROGRAM, "doctor"],
            env={**variables, "PILOTHOUSE_DATA_DIR": str(folder / "data")},
            cwd=trapped,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
    assert "the Helm engine works" in done.stdout, done.stdout + done.stderr
    assert marks(trapped) == []


def test_a_childs_path_is_without_the_current_folder(trapped: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(trapped)
    monkeypatch.setattr(sys, "path", ["", str(trapped), ".", *sys.path])
    path = child_environment(trapped, memory_bytes=1)["PYTHONPATH"].split(os.pathsep)
    assert str(trapped) not in path
    assert all(Path(one).is_absolute() for one in path)
