"""Masking takes the same time for each byte, whatever the text and however many secrets are known."""

import gzip
import threading
import time
from base64 import b64encode
from collections.abc import Callable
from os import urandom

import pytest

from pilothouse import redaction
from pilothouse.redaction import MASK, WITHHELD, Masks, redact, redact_log, redact_named

SMALL, LARGE, LARGEST = 20_000, 1_000_000, 10_000_000
#: A text of an attack that once held a process for 11 s.
ATTACK = 120_000
#: The same for each byte, with room for a machine that is busy with other things.
FACTOR = 6.0
LEAST_SECONDS = 0.002

PIECES = (
    "eyJ",
    "eyJaaaaaaaa.",
    "eyJaaaaaaaa.bbbbbbbb.",
    "earer ",
    "earer a",
    "://",
    "://a:",
    "://a:b ",
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN ",
    "-----BEGIN A",
    "password",
    "password=",
    "token : ",
    "token\t",
    "ignature=",
    "pht-",
    "H4sI",
    "SDRzS",
    "\x1f\x8b",
    "a",
    "a ",
    "\\",
    '"',
    "\n",
)

#: The costliest of these for each byte, and those that were not linear once.
COSTLY = ("eyJ", "eyJaaaaaaaa.bbbbbbbb.", "://a:b ", "-----BEGIN A", "token : ", "\x1f\x8b", "a")


def seconds(work: Callable[[], object]) -> float:
    """Return the processor time of the quickest of three tries."""
    tries = []
    for _ in range(3):
        began = time.process_time()
        work()
        tries.append(time.process_time() - began)
    return min(tries)


def assert_linear(work: Callable[[str], object], piece: str) -> None:
    small, large = (piece * (size // len(piece)) for size in (SMALL, LARGE))
    limit = max(LEAST_SECONDS, seconds(lambda: work(small))) * LARGE / SMALL * FACTOR
    assert seconds(lambda: work(large)) < limit


def assert_flat(work: Callable[[str], object], piece: str) -> None:
    """Check a text at 120 kB, 1 MB and 10 MB: the time of each byte of the larger ones against that of the first."""
    least = max(LEAST_SECONDS, seconds(lambda: work(piece * (ATTACK // len(piece))))) / ATTACK
    for size in (LARGE, LARGEST):
        text = piece * (size // len(piece))
        began = time.process_time()
        work(text)
        assert time.process_time() - began < least * size * FACTOR, size


@pytest.fixture(autouse=True)
def _uncut(monkeypatch: pytest.MonkeyPatch):
    """Mask texts of any length: those here are longer than is masked otherwise."""
    monkeypatch.setattr(redaction, "_LONGEST_TEXT", 2 * LARGEST)


@pytest.mark.parametrize("piece", PIECES, ids=repr)
@pytest.mark.parametrize("mask", [redact, redact_named, redact_log], ids=lambda mask: mask.__name__)
def test_the_time_of_a_byte_does_not_depend_on_the_text(mask: Callable[[str], str], piece: str):
    assert_linear(mask, piece)


@pytest.fixture(scope="module")
def many() -> Masks:
    nested = ["a" * length for length in range(4, 2000, 7)]
    return Masks(
        [f"secret-value-{number}" for number in range(10_000)] + nested, sensitive=["abcd", "x" * 11]
    ).prepare()


@pytest.mark.parametrize("piece", ["a", "secret-value-", "value-1 ", "x" * 11 + " "], ids=repr)
def test_nor_on_the_secrets(piece: str, many: Masks):
    assert_linear(many.apply, piece)


@pytest.mark.parametrize("piece", COSTLY, ids=repr)
@pytest.mark.parametrize("mask", [redact, redact_log], ids=lambda mask: mask.__name__)
def test_a_byte_of_ten_megabytes_costs_what_one_of_120_kilobytes_does(mask: Callable[[str], str], piece: str):
    assert_flat(mask, piece)


@pytest.mark.parametrize("piece", ["secret-value-", "value-1 ", "x" * 11 + " "], ids=repr)
def test_a_byte_of_ten_megabytes_costs_no_more_with_ten_thousand_secrets(piece: str, many: Masks):
    assert_flat(many.apply, piece)


def test_ten_thousand_values_and_a_long_text_take_a_moment():
    masks = Masks(f"value-{number}-of-many" for number in range(10_000))
    text = " ".join(f"value-{number}-of-many" for number in range(10_000))

    assert seconds(lambda: masks.apply(text)) < 0.5
    assert masks.apply(text).replace(MASK, "").strip() == ""


def test_what_is_too_much_to_look_for_is_withheld():
    assert Masks(str(10**12 + number) for number in range(50_000)).apply("harmless") == WITHHELD
    assert Masks(f"{number:064}" for number in range(9_000)).apply("harmless") == WITHHELD


def test_a_value_of_megabytes_is_looked_for_by_its_beginning():
    secret = b64encode(urandom(2_000_000)).decode()
    masks = Masks([secret])

    assert seconds(lambda: masks.apply("harmless")) < 0.5
    assert masks.apply(f"error: {secret[:100_000]} is wrong") == f"error: {MASK} is wrong"
    assert masks.apply(f"error: {secret[:64]}, {secret[:63]}") == f"error: {MASK}, {secret[:63]}"


def test_no_other_thread_waits_longer_than_for_one_portion():
    values = [f"{number:04x}" * 16 for number in range(4_000)]
    longest, stop = [0.0], threading.Event()

    def watch() -> None:
        while not stop.is_set():
            began = time.monotonic()
            time.sleep(0.001)
            longest[-1] = max(longest[-1], time.monotonic() - began)

    watcher = threading.Thread(target=watch)
    watcher.start()
    for _ in range(5):  # the least of five, because the machine can be busy
        Masks(values).apply("harmless")
        longest.append(0.0)
    stop.set()
    watcher.join()

    assert min(longest[:5]) < 0.05


def test_a_text_that_is_too_long_is_cut_and_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(redaction, "_LONGEST_TEXT", 10)

    for cut in (redact("012 4567secret"), Masks(["4567secret"]).apply("012 4567secret")):
        assert cut == "012… (11 more characters omitted)"


@pytest.mark.parametrize("times", [0, 1, 2])
def test_the_record_of_another_release_is_masked(times: int):
    packed = gzip.compress(b'{"name": "theirs", "config": {"password": "hunter2"}}' * 20)
    text = packed.decode("utf-8", "replace")
    for _ in range(times):
        packed = b64encode(packed)
        text = packed.decode()

    shown = redact(f"error calling fail: data.release: {text}")

    assert text[8:40] not in shown
    assert MASK in shown
