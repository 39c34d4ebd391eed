"""What the soak makes of its samples: each kind of growth, and each thing left behind, is told by its name."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from benchmarks.samples import PARTS, Held, Sample
from benchmarks.verdicts import EMPTY, FIRST_REST, GIVEN_BACK, KEPT, LAST_REST, LOADED, judge

HELD_BY = ("supervisor", *PARTS, "engine children of the worker", "PostgreSQL")
#: The minutes of the load, and the minute in which the last rest begins.
MINUTES, RESTS_AT = 40, 60
OWN = "{}, MB of its own"

Change = Callable[[int, str, Sample], None]


def look(minute: int, phase: str) -> Sample:
    """Return a look at a server that holds the same as ever."""
    held = {
        part: Held(processes=2, pss=120, private=100, shared=10, files=20, sockets=9, threads=7) for part in HELD_BY
    }
    rows = dict.fromkeys((*EMPTY, *GIVEN_BACK, *KEPT), 0)
    rows |= dict.fromkeys(GIVEN_BACK, 12) | dict.fromkeys(KEPT, 300 if phase == LOADED else 0)
    return Sample(at=60.0 * minute, phase=phase, held=held, counts=rows)


def soak(change: Change) -> list[Sample]:
    """Return the looks of a soak, each with what is different about it."""
    phases = ["warm-up"] * 10 + [FIRST_REST] * 9 + [LOADED] * MINUTES + [f"after {LOADED}"] + [LAST_REST] * 9
    samples = [look(minute, phase) for minute, phase in enumerate(phases)]
    loaded = 0
    for sample in samples:
        loaded += sample.phase == LOADED
        change(loaded, sample.phase, sample)
    return samples


def grows(part: str, of_an_hour: float, *, thing: str = "private") -> Change:
    """Add a share of what the part holds, minute by minute of the load."""

    def change(minute: int, _: str, sample: Sample) -> None:
        held = sample.held[part]
        sample.held[part] = replace(held, **{thing: getattr(held, thing) * (1 + of_an_hour * minute / 60)})

    return change


def leaves(part: str, thing: str, number: int = 1, *, for_looks: int = MINUTES) -> Change:
    """Have the part hold more of a thing after the load, for so many looks of the rest."""

    def change(_: int, phase: str, sample: Sample) -> None:
        if phase == LAST_REST and sample.at < 60.0 * (RESTS_AT + for_looks):
            sample.held[part] = replace(sample.held[part], **{thing: getattr(sample.held[part], thing) + number})

    return change


def counts(name: str, number: int, *, phase: str) -> Change:
    """Have so many rows, or whatever it is, in one phase; under load in its second half alone."""

    def change(minute: int, at: str, sample: Sample) -> None:
        if at == phase and (phase != LOADED or minute > MINUTES / 2):
            sample.counts[name] = number

    return change


def nothing(_minute: int, _phase: str, _sample: Sample) -> None:
    """Change nothing."""


def once(_: int, phase: str, sample: Sample) -> None:
    """Hold twice the memory in a single look of the load, as when an archive is read."""
    if phase == LOADED and sample.at == 60.0 * 40:
        sample.held["api"] = replace(sample.held["api"], private=200)


@pytest.mark.parametrize(
    ("change", "violated"),
    [
        pytest.param(nothing, [], id="flat"),
        pytest.param(grows("api", 0.15), [OWN.format("api"), f"{OWN.format('api')}, at rest"], id="10 % in the load"),
        pytest.param(grows("api", 0.07), [], id="4.7 % in the load"),
        pytest.param(grows("api", -0.5), [], id="less and less"),
        pytest.param(once, [], id="a peak"),
        pytest.param(
            grows("engine children of the worker", 0.15), [OWN.format("engine children of the worker")],
            id="each engine child",
        ),
        pytest.param(
            grows("engine children of the worker", 0.15, thing="processes"),
            ["processes of engine children of the worker, at rest"],
            id="more and more engine children, which are there at rest too",
        ),
        pytest.param(
            grows("PostgreSQL", 0.15), [f"{OWN.format('PostgreSQL')}, at rest"], id="sessions of PostgreSQL at rest"
        ),
        pytest.param(grows("PostgreSQL", 0.9, thing="shared"), [], id="shared buffers that fill up"),
        pytest.param(grows("api", 0.9, thing="pss"), [], id="pages of files, which others may have left"),
        pytest.param(leaves("api", "files"), ["files of api, at rest"], id="a file"),
        pytest.param(leaves("api", "sockets"), ["sockets of api, at rest"], id="a socket"),
        pytest.param(leaves("api", "threads", 7), ["threads of api, at rest"], id="threads"),
        pytest.param(leaves("api", "threads", 6), [], id="threads that a pool may have"),
        pytest.param(leaves("supervisor", "threads"), ["threads of supervisor, at rest"], id="a thread without a pool"),
        pytest.param(leaves("api", "sockets", for_looks=8), [], id="a socket that goes before the last look"),
        pytest.param(leaves("PostgreSQL", "sockets"), ["sockets of PostgreSQL, at rest"], id="a session's socket"),
        pytest.param(leaves("PostgreSQL", "files"), [], id="tables that PostgreSQL keeps open"),
        pytest.param(counts("operations", 350, phase=LOADED), ["rows of operations"], id="rows that are not removed"),
        pytest.param(counts("operations", 320, phase=LOADED), [], id="a few rows more"),
        pytest.param(counts("sessions", 1, phase=LAST_REST), ["sessions, at rest"], id="a session that does not end"),
        pytest.param(
            counts("connections of PostgreSQL", 13, phase=LAST_REST), ["connections of PostgreSQL, at rest"],
            id="a connection of PostgreSQL",
        ),
        pytest.param(
            counts("files in the temporary folder", 1, phase=LAST_REST), ["files in the temporary folder, at rest"],
            id="a temporary file",
        ),
    ],
)  # fmt: skip
def test_what_grows_or_is_left_is_told(change: Change, violated: list[str]):
    assert [row.what for row in judge(soak(change)) if not row.is_met] == violated


def test_the_slope_is_that_of_an_hour_of_load():
    (row,) = (row for row in judge(soak(grows("api", 0.15))) if row.what == OWN.format("api"))
    assert row.slope == pytest.approx(15)
    assert row.before == pytest.approx(101.375)
    assert row.after == pytest.approx(108.875)


@pytest.mark.parametrize("missing", [LOADED, FIRST_REST, LAST_REST])
def test_a_soak_without_a_phase_is_no_soak(missing: str):
    with pytest.raises(AssertionError):
        judge([sample for sample in soak(nothing) if sample.phase != missing])
