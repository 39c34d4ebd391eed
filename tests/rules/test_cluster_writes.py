"""No write of a worker to a cluster without the lease, and none that no table has decided: held over the syntax tree.

A write is a request of ``ClusterClient`` that is no reading, whatever turns a Secret with one, and a call of the engine
by an attempt. Functions are followed by their names, so that two methods of one name count as one.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import pilothouse

ROOT = Path(pilothouse.__file__).parent
#: Asks what the account may do, with a POST.
READS = {"review_access"}
#: What the attempt itself offers, which checks the lease.
OF_ATTEMPT = {"run", "unlock"}
#: These start whatever an attempt does: if an undecided write reaches one, nothing has decided it.
STARTS = ("runner.py ", "actions/registry.py ", "maintenance/repairs.py Repairs.")

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _functions(text: str) -> Iterator[tuple[str, Function]]:
    """Yield the functions with their names, those in functions as a part of these."""
    for node in ast.parse(text).body:
        if isinstance(node, ast.ClassDef):
            yield from ((f"{node.name}.{one.name}", one) for one in node.body if isinstance(one, Function))
        elif isinstance(node, Function):
            yield node.name, node


def _calls(function: ast.AST) -> Iterator[tuple[str, str, int]]:
    """Yield receiver, name and line of each call; without a dot the receiver is empty."""
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            of = node.func.value
            yield getattr(of, "attr", getattr(of, "id", "(...)")), node.func.attr, node.lineno
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield "", node.func.id, node.lineno


def client_writes() -> set[str]:
    """Return the methods of the client that change something, and the functions that turn a Secret with one."""
    methods = {
        function.name
        for _, function in _functions((ROOT / "kubernetes/client.py").read_text())
        for node in ast.walk(function)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "ask"
        if not (isinstance(node.args[0], ast.Constant) and node.args[0].value == "GET")
    } - READS
    turning = {
        function.name
        for _, function in _functions((ROOT / "kubernetes/helm_secrets.py").read_text())
        if any(name in methods for _, name, _ in _calls(function))
    }
    return methods | turning


@dataclass(frozen=True)
class Flaws:
    """Writes before which the lease is not checked, and starts of an attempt that reach an undecided write."""

    unheld: set[str]
    undecided: set[str]


def flaws_of(worker: Mapping[str, str]) -> Flaws:
    """Look at the modules of a worker, by their paths in its package."""
    writes = client_writes()
    functions = {f"{file} {name}": one for file, text in worker.items() for name, one in _functions(text)}
    calls = {place: list(_calls(function)) for place, function in functions.items()}
    unheld, undecided = set(), set()
    for place, made in calls.items():
        is_attempts = place.startswith("attempt.py Attempt.")
        held_from = min((line for _, name, line in made if name == "check_held"), default=None)
        for of, name, line in made:
            on_attempt = of in {"attempt", "_attempt"} and name in OF_ATTEMPT
            is_write = name in writes and not on_attempt and of not in {"self", "_attempt", "attempt"}
            if (is_write or (is_attempts and name == "_call")) and (held_from is None or held_from > line):
                unheld.add(place)
            if (is_write or on_attempt) and not is_attempts:
                undecided.add(place)
    decided = {place for place, made in calls.items() if any(_decides(name) for _, name, _ in made)}
    undecided -= decided
    while True:
        names = {_name(place) for place in undecided}
        more = {
            place
            for place, made in calls.items()
            if not place.startswith("attempt.py Attempt.")
            and any((bool(of), name) in names and of not in {"attempt", "_attempt"} for of, name, _ in made)
        }
        if more - decided <= undecided:
            break
        undecided |= more - decided
    called = {(bool(of), name) for made in calls.values() for of, name, _ in made}
    return Flaws(unheld, {place for place in undecided if place.startswith(STARTS) or _name(place) not in called})


def _name(place: str) -> tuple[bool, str]:
    """Return by what a function is called: whether by a name after a dot, and that name."""
    owner, _, name = place.rpartition(" ")[2].rpartition(".")
    return bool(owner), name


def _decides(name: str) -> bool:
    return name.lstrip("_").startswith("decide")


def worker() -> dict[str, str]:
    package = ROOT / "worker"
    return {file.relative_to(package).as_posix(): file.read_text() for file in package.rglob("*.py")}


def test_the_writes_are_found():
    assert client_writes() >= {"delete_object", "merge_object", "apply_object", "replace_secret", "unlock", "supersede"}
    assert not client_writes() & {"find_object", "list_pods", "read_release", "review_access"}


def test_before_each_write_the_lease_is_checked_and_a_table_has_decided():
    assert flaws_of(worker()) == Flaws(set(), set())


def test_only_an_attempt_calls_the_engine():
    engines = [place for place, made in _places() if any(of == "engine" and name == "run" for of, name, _ in made)]
    assert engines == ["attempt.py Attempt._ask"]
    asking = {
        place for place, function in _all() if any(getattr(one, "attr", "") == "_ask" for one in ast.walk(function))
    }
    assert asking == {"attempt.py Attempt._call", "attempt.py Attempt.find_problem"}  # the latter for dry runs


def _all() -> list[tuple[str, Function]]:
    return [(f"{file} {name}", one) for file, text in worker().items() for name, one in _functions(text)]


def _places() -> list[tuple[str, list[tuple[str, str, int]]]]:
    return [(place, list(_calls(function))) for place, function in _all()]


NEW_WRITE = """
async def label(attempt, kind):
    {check}
    await attempt.client.merge_object(kind, namespace="", name="", patch=[])
"""
DECIDED = """
async def relabel(attempt, kind):
    attempt.decide(1)
    await label(attempt, kind)
"""
NEW_ACTION = """
class Restart:
    async def run(self):
        {decision}
        return await self._again()

    async def _again(self):
        return await self._attempt.run(self._request)
"""


@pytest.mark.parametrize(
    ("module", "text", "flaws"),
    [
        (
            "actions/labels.py",
            NEW_WRITE.format(check="attempt.check_held()") + DECIDED,
            Flaws(set(), set()),
        ),
        (
            "actions/labels.py",
            NEW_WRITE.format(check="pass") + DECIDED,
            Flaws({"actions/labels.py label"}, set()),
        ),
        (
            "actions/labels.py",
            NEW_WRITE.format(check="attempt.check_held()"),
            Flaws(set(), {"actions/labels.py label"}),
        ),
        ("actions/restart.py", NEW_ACTION.format(decision="self._attempt.decide(1)"), Flaws(set(), set())),
    ],
)
def test_a_new_write_without_its_check_is_found(module: str, text: str, flaws: Flaws):
    assert flaws_of({**worker(), module: text}) == flaws


def test_a_new_action_that_decides_nothing_is_found_where_actions_are_started():
    found = flaws_of({**worker(), "actions/restart.py": NEW_ACTION.format(decision="pass")})
    assert not found.unheld
    assert "actions/registry.py Actions.attempt" in found.undecided
