"""The scripts of ``pilothouse completion``, from the installed program, in the shells that are here."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
SCRIPTS = {
    "bash": ("complete -o default -F _pilothouse_completion pilothouse", "_PILOTHOUSE_COMPLETE=complete_bash"),
    "zsh": (
        "#compdef pilothouse\n",
        "compdef _pilothouse_completion pilothouse\n",
        "_PILOTHOUSE_COMPLETE=complete_zsh",
    ),
    "fish": ("complete --command pilothouse --no-files", "_PILOTHOUSE_COMPLETE=complete_fish"),
}
#: What a shell does on the tab key after ``pilothouse roll``, and prints instead of showing it.
TABS = {
    "bash": (
        "source <(pilothouse completion bash); COMP_WORDS=(pilothouse roll); COMP_CWORD=1; "
        'COMP_LINE="pilothouse roll"; _pilothouse_completion pilothouse; echo "${COMPREPLY[@]}"'
    ),
    "zsh": (
        "autoload -U compinit; compinit -u -D; source <(pilothouse completion zsh); echo ${_comps[pilothouse]}; "
        "_arguments() { print -r -- $@ }; words=(pilothouse roll); CURRENT=2; $_comps[pilothouse]"
    ),
    "fish": 'pilothouse completion fish | source; complete -C "pilothouse roll"',
}
ALONE = {"bash": ["--norc"], "zsh": ["-f"], "fish": ["--no-config"]}


def run(home: Path, *words: str) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "HOME": str(home)}
    return subprocess.run(words, env=environment, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("shell", SCRIPTS)
def test_the_script_is_printed_and_asks_the_program(shell: str, tmp_path: Path):
    printed = run(tmp_path, "pilothouse", "completion", shell)

    assert (printed.returncode, printed.stderr) == (0, "")
    assert [part for part in SCRIPTS[shell] if part not in printed.stdout] == []
    if shutil.which(shell):
        (tmp_path / "script").write_text(printed.stdout)
        assert run(tmp_path, shell, "-n", str(tmp_path / "script")).stderr == ""


@pytest.mark.parametrize("shell", [shell for shell in SCRIPTS if shutil.which(shell)])
def test_the_shell_completes_a_command(shell: str, tmp_path: Path):
    completed = run(tmp_path, shell, *ALONE[shell], "-c", TABS[shell])

    assert completed.stderr == ""
    assert "rollback" in completed.stdout
    assert "uninstall" not in completed.stdout


def test_another_shell_is_refused_with_those_that_there_are(tmp_path: Path):
    refused = run(tmp_path, "pilothouse", "completion", "tcsh")

    assert (refused.returncode, refused.stdout) == (2, "")
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in refused.stderr
