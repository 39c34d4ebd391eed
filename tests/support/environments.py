"""Environments of programs that run beside the tests: packages pinned by hash, which contradict none of ours.

Each is made once, in a folder beside the sources that git ignores.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def make_environment(folder: Path, requirements: Path, *, then: Callable[[Path], None] | None = None) -> Path:
    """Return the interpreter of the environment in ``folder``, made if it is missing or of other packages.

    ``then`` does once, with the interpreter, what else is slow.
    """
    wanted = hashlib.sha256(requirements.read_bytes()).hexdigest()
    mark, python = folder / "made", folder / "env" / "bin" / "python"
    folder.mkdir(exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # several processes run tests
        if not mark.exists() or mark.read_text() != wanted:
            shutil.rmtree(folder / "env", ignore_errors=True)
            uv = os.environ.get("UV") or shutil.which("uv")  # `uv run` names itself; it is ten times as fast as pip
            pip: list[str | Path] = [uv, "pip"] if uv else [python, "-m", "pip"]
            make: list[str | Path] = [uv, "venv", "--python"] if uv else []
            subprocess.run([*make, sys.executable, *([] if uv else ["-m", "venv"]), folder / "env"], check=True)
            of_env: list[str | Path] = ["--python", python] if uv else ["--disable-pip-version-check"]
            install = [*pip, "install", "--quiet", *of_env, "--require-hashes", "-r", requirements]
            subprocess.run(install, check=True, timeout=240)
            if then is not None:
                then(python)
            mark.write_text(wanted)
    return python
