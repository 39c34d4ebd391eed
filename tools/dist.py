"""``make dist``: builds wheel, source archive and Helm chart in ``dist/``, with what is in them and their sums."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

from pilothouse.cli.local_charts import pack
from tools.localcluster import toolchains
from tools.localcluster.programs import required_go
from tools.localcluster.progress import on_stderr

ROOT = Path(__file__).resolve().parent.parent
_PROGRAMS = ("pilothouse/engine/bin/helm", ".data/scripts/pilothouse")


def main() -> int:
    """Build everything anew."""
    folder = ROOT / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    for file in make(ROOT, folder):
        print(f"wrote {file}")
    return 0


def make(source: Path, folder: Path) -> list[Path]:
    """Build the files of a release of ``source`` into ``folder``; the wheel is built from the source archive."""
    _uv("build", "--quiet", "--out-dir", str(folder), str(source), cwd=source)
    [wheel] = folder.glob("*.whl")
    [archive] = folder.glob("*.tar.gz")
    version = wheel.name.split("-")[1]
    sbom = folder / f"pilothouse-{version}.cdx.json"
    sbom.write_text(json.dumps(bill_of_materials(source, wheel, version=version), indent=2) + "\n")
    chart = folder / f"pilothouse-chart-{version}.tgz"
    chart.write_bytes(pack(ROOT / "deploy" / "chart" / "pilothouse").content)
    files = [wheel, archive, chart, sbom]
    sums = folder / "SHA256SUMS"
    sums.write_text("".join(f"{hashlib.sha256(one.read_bytes()).hexdigest()}  {one.name}\n" for one in files))
    return [*files, sums]


def bill_of_materials(source: Path, wheel: Path, *, version: str) -> dict[str, Any]:
    """Return the SBOM: Python packages by the lock file, Go modules by what the programs of the wheel say."""
    export = ["export", "--quiet", "--frozen", "--no-dev", "--format", "cyclonedx1.5"]
    sbom: dict[str, Any] = json.loads(_uv(*export, "--preview-features", "sbom-export", cwd=source))
    product = sbom["metadata"]["component"]
    modules = _go_modules(wheel)
    product |= {"type": "application", "version": version, "purl": f"pkg:pypi/pilothouse@{version}"}
    sbom["components"] += modules
    for one in sbom["dependencies"]:
        if one["ref"] == product["bom-ref"]:
            one["dependsOn"] = [*one.get("dependsOn", []), *(module["bom-ref"] for module in modules)]
    return sbom


def _go_modules(wheel: Path) -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as files:
        programs = [files.extract(name, folder) for name in files.namelist() if name.endswith(_PROGRAMS)]
        if len(programs) != len(_PROGRAMS):
            raise SystemExit(f"{wheel.name} has {len(programs)} programs, not {len(_PROGRAMS)}")
        go = toolchains.find(at_least=required_go(ROOT / "engine"), progress=on_stderr()).command
        told = subprocess.run([go, "version", "-m", *programs], capture_output=True, text=True, check=True).stdout
    found: dict[str, dict[str, Any]] = {}
    for line in told.splitlines():
        if not line.startswith("\t"):
            found |= _module("std", line.rpartition(" go")[2])
        elif line.startswith(("\tdep\t", "\t=>\t")):
            _, _, name, number, *_ = line.split("\t")
            found |= _module(name, number)
    return [found[purl] for purl in sorted(found)]


def _module(name: str, version: str) -> dict[str, dict[str, Any]]:
    purl = f"pkg:golang/{name}@{version}"
    return {purl: {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}}


def _uv(*arguments: str, cwd: Path) -> str:
    uv = os.environ.get("UV") or shutil.which("uv") or str(ROOT / ".bootstrap" / "bin" / "uv")
    return subprocess.run([uv, *arguments], cwd=cwd, stdout=subprocess.PIPE, text=True, check=True).stdout


if __name__ == "__main__":
    sys.exit(main())
