"""What masks hide, by shape and by value, and what they leave alone."""

import base64
import json
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from pilothouse.redaction import MASK, Masks, has_few, masks_of, masks_of_data, redact, redact_event, redact_log

SECRET = "correct horse battery"


@pytest.mark.parametrize(
    ("text", "left"),
    [
        ("X-Auth-Token pht-" + "a" * 43 + " sent", "X-Auth-Token *** sent"),
        ("Authorization: Bearer abcdefgh.ijkl", "Authorization: Bearer ***"),
        ("got eyJhbGciOiJS.eyJpc3MiOiJr.c2lnbmF0dXJl!", "got ***!"),
        ("connect postgresql://me:pass@host/db failed", "connect postgresql://***@host/db failed"),
        ("Access=AK, Signature=" + "0f" * 32, "Access=AK, Signature=***"),
        ("a -----BEGIN EC PRIVATE KEY-----\nMHc\n-----END EC PRIVATE KEY----- b", "a *** b"),
        ("cut -----BEGIN PRIVATE KEY-----\nMHc", "cut ***"),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, left: str):
    assert redact(text) == left


@pytest.mark.parametrize(
    "text",
    [
        "auth.identity.password: missing",
        "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "https://127.0.0.1:6443/api?x=1 answered 401",
        "key 1a2b3c4d seals from now on",
    ],
)
def test_what_a_person_needs_is_left_alone(text: str):
    assert redact(text) == text


@given(st.text(min_size=12), st.text(), st.text())
def test_no_known_secret_of_some_length_is_left_wherever_it_stands(secret: str, before: str, after: str):
    assume(secret.strip() == secret)
    assume(secret not in MASK)
    assert secret not in Masks([secret]).apply(before + secret + after).replace(MASK, "")


@pytest.mark.parametrize(
    "form",
    [
        SECRET,
        json.dumps(f"two\nlines {SECRET}"),
        base64.b64encode(SECRET.encode()).decode(),
        f"x{SECRET}y",
        f'"{SECRET}"',
    ],
)
def test_every_spelling_of_a_secret_is_masked(form: str):
    text = Masks([SECRET, f"two\nlines {SECRET}"]).apply(f"error at {form}: no")
    assert SECRET not in text
    assert base64.b64encode(SECRET.encode()).decode() not in text
    assert text.startswith("error at ")


def test_each_line_of_a_long_secret_is_masked():
    assert Masks(["first line\n  second line\n"]).apply("yaml: second line is wrong") == "yaml: *** is wrong"


def test_values_are_masked_at_any_depth_and_short_words_only_under_names_that_tell():
    masks = masks_of(
        values={"a": [{"b": "deep-secret-1"}], "port": 8080, "pin": 12345678, "auth": {"password": "pw12"}}
    )
    said = masks.apply("deep-secret-1, port 8080, pin 12345678, pw12, pw123")
    assert said == "***, port 8080, pin ***, ***, pw123"


def test_names_of_objects_and_public_words_are_left():
    masks = masks_of(values={"fullnameOverride": "my-long-name", "x": "production-1"}, public=("production-1",))
    assert masks.apply("Deployment/my-long-name in production-1") == "Deployment/my-long-name in production-1"


def test_of_merged_values_only_what_is_named_as_a_secret_counts():
    masks = masks_of(merged_values={"kind": "ClusterIP", "adminPassword": "inherited-1"})
    assert masks.apply("ClusterIP inherited-1") == "ClusterIP ***"


@pytest.mark.parametrize("form", ["token: {}", '"token": "{}"', "client-key-data: {}", "password: '{}'"])
def test_a_kubeconfigs_credentials_are_masked(form: str):
    assert masks_of(kubeconfig=form.format("abcd1234")).apply("refused abcd1234") == "refused ***"


def test_a_secrets_data_is_masked_decoded_and_not():
    encoded = base64.b64encode(b"hunter22").decode()
    masks = masks_of_data({"a": encoded, "b": base64.b64encode(b"\xff\xfe\xfd\xfc").decode(), "c": None})
    assert masks.apply(f"hunter22 {encoded}") == "*** ***"


def test_no_secrets_leave_a_text_as_it_is():
    assert Masks().apply("plain") == "plain"
    assert masks_of(values={"a": True, "b": None, "c": ""}).apply("true None plain") == "true None plain"


LEAVES = st.none() | st.booleans() | st.integers() | st.text()


@given(st.recursive(LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)))
def test_any_values_make_masks(value: Any):
    masks_of(values={"value": value}).apply("text")


def test_a_log_event_is_searched_at_any_depth():
    event = redact_event(
        {"event": "e", "secrets": 7, "password": "x", "detail": {"kubeconfig": "y", "list": ["token=abcd", "fine"]}}
    )
    assert event == {
        "event": "e",
        "secrets": 7,
        "password": MASK,
        "detail": {"kubeconfig": MASK, "list": ["token=***", "fine"]},
    }


def test_a_log_line_hides_what_is_named_as_a_secret():
    assert redact_log("input password='hunter2' token: abc") == "input password='***' token: ***"


def test_libraries_messages_and_tracebacks_in_the_log_are_masked():
    program = (
        "import logging, structlog\n"
        "from pilothouse.cli.logs import configure_logs\n"
        "from pilothouse.settings import Settings\n"
        "configure_logs(Settings(log_format='json'))\n"
        "logging.getLogger('lib').warning('postgresql://me:hunter2@host')\n"
        "try:\n    raise ValueError('token=hunter2')\nexcept ValueError:\n    structlog.get_logger().exception('e')\n"
        "raise RuntimeError('password: hunter2')\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.count(MASK) >= 3
    assert "process_failed" in done.stderr
    assert [line for line in done.stderr.splitlines() if "hunter2" in line] == []


@pytest.mark.parametrize("name", ["dbPassword", "API_KEY", "accessKey", "PRIVATE", "pathToSecret", "mainDsn"])
def test_names_of_secrets_are_found_however_they_are_written(name: str):
    assert masks_of(values={name: "abcd"}).apply("says abcd") == f"says {MASK}"


@pytest.mark.parametrize(
    ("values", "is_few"),
    [
        ({"a": {"b": ["c", 1, None, True]}}, True),
        (None, True),
        ({f"k{number}": number for number in range(400)}, True),
        ({f"k{number}": number for number in range(600)}, False),
        ([[]] * 600, False),
        ({"a": {"b": ["c"] * 600}}, False),
        ({"a": "x" * 20_000}, False),
        ({"x" * 20_000: 1}, False),
    ],
)
def test_few_values_are_told_from_many(values: object, *, is_few: bool):
    assert has_few({}, values) == is_few
