"""Bundles the YAML editor of the console with Node.js: ``python -m tools.editor_bundle``; ``--check`` only compares.

The result is committed, so that nobody else needs either. Its licences stand beside it.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent / "editor"
STATIC = Path(__file__).parents[1] / "src" / "pilothouse" / "console" / "static"
BUNDLE, LICENCES = STATIC / "editor.min.js", STATIC / "editor-LICENSES.txt"
_SECONDS = 300


class BundleFailed(Exception):
    """The bundle cannot be built here."""


def build() -> dict[Path, bytes]:
    """Return what the bundle and its licences have to be; raise BundleFailed without Node.js or the packages."""
    npm = shutil.which("npm")
    if npm is None:
        raise BundleFailed("npm is missing; install Node.js 20 or newer")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for file in HERE.iterdir():
            if file.is_file():
                shutil.copy(file, folder)
        _run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], folder)
        modules = folder / "node_modules"
        options = [
            "--bundle",
            "--minify",
            "--format=iife",
            "--target=es2022",
            "--charset=utf8",
            "--legal-comments=none",
        ]
        _run([str(modules / ".bin" / "esbuild"), "editor.js", *options, "--outfile=out.js"], folder)
        return {BUNDLE: (folder / "out.js").read_bytes(), LICENCES: _licences(modules).encode()}


def _licences(modules: Path) -> str:
    """Return the licence of each package that is in the bundle; esbuild only makes it."""
    texts = ["editor.min.js is made of these packages by python -m tools.editor_bundle.\n"]
    for file in sorted(modules.rglob("LICENSE*")):
        package = file.parent.relative_to(modules).as_posix()
        if "esbuild" not in package:
            texts.append(f"## {package}\n\n{file.read_text().strip()}\n")
    return "\n".join(texts)


def _run(command: list[str], folder: Path) -> None:
    environment = {**os.environ, "npm_config_cache": str(folder / "cache"), "npm_config_update_notifier": "false"}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=_SECONDS, check=False
    )
    if done.returncode != 0:
        raise BundleFailed(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def main() -> int:
    """Write the bundle, or say what of the committed one is not what it has to be."""
    try:
        built = build()
    except BundleFailed as error:
        print(error, file=sys.stderr)
        return 1
    if "--check" not in sys.argv[1:]:
        for file, content in built.items():
            file.write_bytes(content)
        return 0
    old = [file.name for file, content in built.items() if not file.exists() or file.read_bytes() != content]
    if old:
        print(f"{', '.join(old)}: not what tools/editor makes; run python -m tools.editor_bundle", file=sys.stderr)
    return 1 if old else 0


if __name__ == "__main__":
    sys.exit(main())
