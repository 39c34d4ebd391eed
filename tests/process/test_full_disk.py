"""A full disk where commands write: one line on standard error, and no part of a file."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

FULL = "pilothouse: cannot write the output: No space left on device\n"
#: No file of the process may be larger: where a file ends, as on a full disk, a write fails.
LIMITED = """
import resource
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
"""


@pytest.mark.parametrize(
    "words", [["--help"], ["man"], ["version"], ["template", "CHART"], ["show", "values", "CHART"]]
)
def test_output_that_has_no_room_is_one_line(words: list[str], tmp_path: Path):
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: full\nversion: 0.1.0\n")
    (tmp_path / "values.yaml").write_text("a: 1\n")
    (tmp_path / "templates" / "map.yaml").write_text("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\n")
    typed = [str(tmp_path) if word == "CHART" else word for word in words]
    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            [sys.executable, "-m", "pilothouse", *typed],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env={"PATH": os.environ["PATH"], "HOME": "/nowhere"},
            check=False,
        )

    assert (ended.returncode, ended.stderr) == (1, FULL)


def run(program: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, "-c", LIMITED + program], capture_output=True, text=True, cwd=folder, check=True
    )
    return done.stdout


def test_of_a_download_without_room_nothing_stays(tmp_path: Path):
    said = run(
        """
from pilothouse.cli.downloads import save
from pilothouse.errors import PilothouseError
try:
    save(Path("chart.tgz"), bytes(5000))
except PilothouseError as error:
    print(error)
save(Path("small.tgz"), b"x")
try:
    save(Path("small.tgz"), bytes(5000))
except PilothouseError as error:
    print(error)
""",
        tmp_path,
    )

    assert said == "cannot write chart.tgz: File too large\ncannot write small.tgz: File too large\n"
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("small.tgz", b"x")]


def test_contexts_that_have_no_room_stay_as_they_were(tmp_path: Path):
    said = run(
        """
import os
os.environ["PILOTHOUSE_CONTEXTS"] = "contexts.json"
from pilothouse.cli.contexts import Context, edited_contexts, read_contexts
from pilothouse.errors import PilothouseError
with edited_contexts() as contexts:
    contexts.put(Context(name="old", url="http://a"))
try:
    with edited_contexts() as contexts:
        contexts.put(Context(name="new", url="http://a", token="x" * 5000))
except PilothouseError as error:
    print(error)
print([one.name for one in read_contexts().contexts])
""",
        tmp_path,
    )

    assert said == "cannot write the contexts to contexts.json: File too large\n['old']\n"
    assert sorted(one.name for one in tmp_path.iterdir()) == ["contexts.json", "contexts.json.lock"]
