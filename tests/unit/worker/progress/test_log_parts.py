"""A log in parts: whatever the parts are, they show no secret that the whole would not, and every other line once."""

import base64
from itertools import product

import pytest

from pilothouse.kubernetes.pods import shown_lines
from pilothouse.redaction import MASK, WITHHELD, Masks, masks_of
from pilothouse.worker.progress.log_parts import MOST_BYTES, MOST_LINES, LogParts, Room, SecretStarts

SHORT_LINES = "hunter\nof\nthe\nsnark"
KEY = ["-----BEGIN EC PRIVATE KEY-----", "MHcCAQEEIA==", "oAoGCCqGSM49", "-----END EC PRIVATE KEY-----"]
MASKS = [Masks(sensitive=[SHORT_LINES, "in-one-line"]).prepare(), masks_of(values={"text": "x: 1\ny: 2 and more"})]
LOG = [
    "begins", "a hunter", "hunter", "of", "the", "snark", "of", "the", "in-one-line", *KEY, "between",
    "password:", "", "  tiny", "token =", "small", "x: 1", "x: 1", "y: 2 and more", *KEY[:2], "rest", KEY[-1], "ends",
]  # fmt: skip
SECRET = ("snark", "hunter\nof", "in-one-line", *KEY[1:3], "rest", "tiny", "small", "y: 2")


def read(parts: list[list[str]], *, ended: bool = True) -> list[str]:
    log, starts = LogParts(Room()), SecretStarts(MASKS)
    shown: list[str] = []
    for lines in parts:
        log.add(line.encode() for line in lines)
        shown += log.take(MASKS, starts)
    if ended:
        log.end()
    while lines := log.take(MASKS, starts):
        shown += lines
    return shown


def without_masks(lines: list[str]) -> list[str]:
    return [line for line in lines if MASK not in line and line]


def test_no_border_between_parts_shows_a_secret_or_loses_a_line():
    whole = read([LOG])
    assert not [secret for secret in SECRET if secret in "\n".join(whole)]
    for first, second in product(range(len(LOG) + 1), repeat=2):
        if first <= second:
            told = read([LOG[:first], LOG[first:second], LOG[second:]])
            assert not [secret for secret in SECRET if secret in "\n".join(told)], (first, second)
            assert without_masks(told) == without_masks(whole), (first, second)
    assert without_masks(read([[line] for line in LOG])) == without_masks(whole)


def test_what_may_begin_a_secret_is_shown_when_the_log_has_ended_and_not_before():
    assert read([["one", "a hunter"]], ended=False) == ["one"]
    assert read([["one", "a hunter"]]) == ["one", "a hunter"]
    assert read([["one", "a hunter"], ["goes on"]], ended=False) == ["one", "a hunter", "goes on"]


def test_a_secret_between_colours_is_one_and_no_sequence_of_a_terminal_is_left():
    told = read([["\x1b[31min-one\x1b[0m-line\x1b[K", "\x1b]0;title\x07plain \x9b1mbold", "\x1b[2J\x1b(B\x1bcx"]])
    assert told == [MASK, "plain bold", "x"]
    assert shown_lines([b"\x1b[1mloud\x1b[0m \x1b[ and"], [], longest=100, room=100)[0].startswith("loud ")


def test_what_helm_stores_is_masked_to_the_end_of_the_log():
    binary = b"\x1f\x8b\x08\x00\xff".decode(errors="replace")
    assert read([["before", f"{binary}x"], ["of the same", "and this"]]) == ["before", MASK]
    stored = base64.b64encode(b"\x1f\x8b\x08\x00\x00\x00\x00\x00" + b"x" * 40).decode()
    assert read([[stored], ["after"]]) == [MASK, "after"]


@pytest.mark.parametrize(("line", "lines"), [("x" * 10, MOST_LINES), ("x" * 1023, MOST_BYTES // 1024)])
def test_a_log_is_cut_at_its_limits_with_what_would_have_to_wait(line: str, lines: int):
    log, starts = LogParts(Room(10**6, 10**9)), SecretStarts(MASKS)
    log.add([line.encode()] * (lines - 1))
    assert not log.is_cut
    log.add([b"a hunter"])
    log.add([line.encode()] * 3)
    log.end()
    assert log.is_cut
    shown: list[str] = []
    while some := log.take(MASKS, starts):
        shown += some
    assert len(shown) == lines - 1


def test_all_logs_together_have_one_limit():
    together = Room(3, 1000)
    logs = [LogParts(together) for _ in range(2)]
    for log in logs:
        log.add([b"one", b"two"])
    assert [log.is_cut for log in logs] == [False, True]
    assert [log.take([], SecretStarts([])) for log in logs] == [["one", "two"], ["one"]]


def test_too_many_secrets_are_said_once():
    many = [Masks(sensitive=[f"secret-number-{number}" for number in range(40_001)])]
    log, starts = LogParts(Room()), SecretStarts([])
    log.add([b"one"])
    assert log.take(many, starts) == [WITHHELD]
    log.add([b"two"])
    assert log.take(many, starts) == []
    assert log.is_cut
