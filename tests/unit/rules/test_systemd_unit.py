"""The systemd unit stays as closed as its page says."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[3]
_UNIT = _ROOT / "deploy" / "systemd" / "pilothouse.service"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_its_exposure_is_at_most_the_figure_of_the_page():
    page = (_ROOT / "docs" / "security-model.md").read_text()
    (stated,) = re.findall(r"`systemd-analyze security` gives the unit\s+(\d\.\d)", page)
    told = subprocess.run(
        ["systemd-analyze", "security", "--offline=true", "--no-pager", _UNIT],
        env={"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    (found,) = re.findall(r"Overall exposure level for pilothouse\.service: (\d+\.\d)", told)
    assert float(found) <= float(stated)
