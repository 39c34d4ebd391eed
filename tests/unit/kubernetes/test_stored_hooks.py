"""Hooks of stored revisions."""

import pytest

from pilothouse.errors import CorruptRelease
from pilothouse.kubernetes.stored_hooks import decode_hooks


def test_hooks_are_read_as_helm_writes_them():
    [hook] = decode_hooks(b'[{"name":"a","kind":"Job","weight":-5,"events":["test"],"last_run":{"phase":"Failed"}}]')
    assert (hook.name, hook.weight, hook.events, hook.delete_policies) == ("a", -5, ["test"], None)
    assert hook.last_run is not None
    assert hook.last_run.phase == "Failed"
    assert decode_hooks(b"") == decode_hooks(b"null") == []


@pytest.mark.parametrize(
    "text",
    [
        b"{}",
        b"[1]",
        b'[{"weight":"x"}]',
        b"[" * 100_000,
        b'["\xff"]',
        b" " * (2 * 1024 * 1024 + 1),
        b"[" + b"{}," * 20_000 + b"{}]",
    ],
)
def test_hooks_that_cannot_be_read_are_an_error(text: bytes):
    with pytest.raises(CorruptRelease, match="hooks of the revision"):
        decode_hooks(text)


def test_a_hook_with_much_text_is_read():
    manifest = "a,b: [c]\\n" * 30_000
    [hook] = decode_hooks(b'[{"manifest":"' + manifest.encode() + b'"}]')
    assert hook.manifest.count(",") == 30_000
