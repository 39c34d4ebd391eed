"""The source of the project as rules about it read it: each module parsed once in a process."""

import ast
from functools import cache
from pathlib import Path

import pilothouse

ROOT = Path(pilothouse.__file__).parent


@cache
def modules() -> dict[str, ast.Module]:
    """Return the modules by their path in the package, without migrations, which never change."""
    files = (file for file in sorted(ROOT.rglob("*.py")) if "migrations" not in file.parts)
    return {file.relative_to(ROOT).as_posix(): ast.parse(file.read_text()) for file in files}
