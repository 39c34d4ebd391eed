"""Versions of Helm, Go and Python in use."""

import json
import platform
import subprocess

from pilothouse.engine.launcher import PROGRAM
from pilothouse.errors import EngineUnavailable


def read_versions() -> dict[str, str]:
    """Return versions by name, as reported by the engine's program; raise EngineUnavailable if it does not run."""
    try:
        done = subprocess.run([PROGRAM, "version"], capture_output=True, text=True, check=True)  # noqa: S603 - our own
    except (OSError, subprocess.CalledProcessError) as error:
        raise EngineUnavailable(f"the engine's program {PROGRAM} does not run: {error}") from error
    versions: dict[str, str] = json.loads(done.stdout)
    return {**versions, "python": platform.python_version()}
