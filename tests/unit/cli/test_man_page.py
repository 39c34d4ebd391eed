"""The manual page has every command and option, and is what roff understands."""

import shutil
import subprocess

import pytest

from pilothouse.cli import COMMANDS
from pilothouse.cli.man_page import man_page


def test_every_command_and_its_options_stand_in_the_page():
    page = "\n".join(man_page())

    missing = [name for name, entry in COMMANDS.items() if not entry.hidden and f".SS pilothouse {name}" not in page]
    assert missing == []
    assert ".SS pilothouse get values NAME" in page
    assert ".B \\-f, \\-\\-values \\fIFILE\\fR" in page
    assert page.count(".B \\-\\-secret\\-key \\fI") == 1
    assert "\\-\\-atomic" not in page
    assert ".SS pilothouse serve" in page


def test_the_page_is_plain_ascii_and_no_text_begins_as_a_request():
    page = "\n".join(man_page())

    assert page.isascii()
    words = {line.partition(" ")[0] for line in page.splitlines() if line.startswith((".", "'"))}
    assert words <= {".TH", ".SH", ".SS", ".TP", ".B", ".I", ".PP", ".nf", ".fi"}


@pytest.mark.skipif(shutil.which("groff") is None, reason="groff is not installed")
def test_groff_finds_nothing_wrong_with_it():
    done = subprocess.run(
        ["groff", "-man", "-Tascii", "-ww", "-z"],
        input="\n".join(man_page()) + "\n",
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
