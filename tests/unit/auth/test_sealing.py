"""Sealing: what opens, what does not, and who may read the key file."""

import json
import os
import stat
from concurrent.futures import ThreadPoolExecutor
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import DecryptionFailed

OLD, NEW = b"\x00\x00\x00\x01", b"\x00\x00\x00\x02"
KEYS = MasterKeys({OLD: b"o" * 32, NEW: b"n" * 32})
CONTEXT = "access-key:A1B2C3D4E5F6G7H8I9J0"


@given(st.binary(max_size=200), st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
def test_what_was_sealed_opens_in_its_context(plaintext, context):
    assert KEYS.unseal(KEYS.seal(plaintext, context=context), context=context) == plaintext


def test_another_context_does_not_open_it():
    sealed = KEYS.seal(b"secret", context=CONTEXT)

    with pytest.raises(DecryptionFailed, match="damaged, or was sealed for another context"):
        KEYS.unseal(sealed, context="access-key:OTHER")


def test_no_changed_bit_opens():
    sealed = KEYS.seal(b"secret", context=CONTEXT)
    for position in range(len(sealed) * 8):
        changed = bytearray(sealed)
        changed[position // 8] ^= 1 << position % 8
        with pytest.raises(DecryptionFailed):
            KEYS.unseal(bytes(changed), context=CONTEXT)


def test_no_cut_opens():
    sealed = KEYS.seal(b"secret", context=CONTEXT)
    for length in range(len(sealed)):
        with pytest.raises(DecryptionFailed):
            KEYS.unseal(sealed[:length], context=CONTEXT)


@given(st.binary(max_size=100))
def test_garbage_is_seal_broken(garbage):
    with pytest.raises(DecryptionFailed):
        KEYS.unseal(garbage, context=CONTEXT)


def test_the_newest_key_seals_and_the_old_one_still_opens():
    before = MasterKeys({OLD: b"o" * 32}).seal(b"secret", context=CONTEXT)

    assert before[1:5] == OLD
    assert KEYS.seal(b"secret", context=CONTEXT)[1:5] == NEW
    assert KEYS.unseal(before, context=CONTEXT) == b"secret"


def test_a_missing_key_is_named_so_that_the_right_file_can_be_found():
    sealed = KEYS.seal(b"secret", context=CONTEXT)

    with pytest.raises(DecryptionFailed, match="needs master key 00000002"):
        MasterKeys({OLD: b"o" * 32}).unseal(sealed, context=CONTEXT)


def test_two_seals_of_one_value_differ():
    assert KEYS.seal(b"secret", context=CONTEXT) != KEYS.seal(b"secret", context=CONTEXT)


def test_no_keys_is_an_error_and_keys_are_not_shown():
    with pytest.raises(DecryptionFailed):
        MasterKeys({})
    assert "ooo" not in repr(KEYS) + str(vars(KEYS))


class TestKeyFile:
    def test_first_start_makes_it_for_its_owner_only(self, tmp_path):
        path = tmp_path / "data dir" / "master-key.json"

        sealed = MasterKeys.load_or_create(path).seal(b"secret", context=CONTEXT)

        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert list(path.parent.iterdir()) == [path]
        assert MasterKeys.load_or_create(path).unseal(sealed, context=CONTEXT) == b"secret"

    def test_its_mode_does_not_depend_on_the_umask(self, tmp_path):
        before = os.umask(0)
        try:
            MasterKeys.load_or_create(tmp_path / "key")
        finally:
            os.umask(before)

        assert stat.S_IMODE((tmp_path / "key").stat().st_mode) == 0o600

    def test_starts_at_the_same_time_share_one_key(self, tmp_path):
        path = tmp_path / "key"
        with ThreadPoolExecutor(16) as pool:
            made = list(pool.map(lambda _: MasterKeys.load_or_create(path), range(64)))

        sealed = made[0].seal(b"secret", context=CONTEXT)
        assert all(keys.unseal(sealed, context=CONTEXT) == b"secret" for keys in made)
        assert list(tmp_path.iterdir()) == [path]

    def test_randomness_comes_from_the_parameter(self, tmp_path):
        numbers = count(1)

        def counted(size: int) -> bytes:
            return next(numbers).to_bytes(size, "big")

        keys = MasterKeys.load_or_create(tmp_path / "key", random_bytes=counted)

        assert json.loads((tmp_path / "key").read_text())["keys"][0]["id"] == "00000001"
        assert keys.seal(b"", context=CONTEXT)[5:17] == (3).to_bytes(12, "big")

    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o601])
    def test_a_file_open_to_others_is_refused_with_the_cure(self, tmp_path, mode):
        path = tmp_path / "key"
        MasterKeys.load_or_create(path)
        path.chmod(mode)

        with pytest.raises(DecryptionFailed, match=f"mode {mode:04o}.*chmod 600"):
            MasterKeys.load_or_create(path)

    def test_several_keys_the_last_one_seals(self, tmp_path):
        first, second = tmp_path / "first", tmp_path / "second"
        old = MasterKeys.load_or_create(first).seal(b"secret", context=CONTEXT)
        MasterKeys.load_or_create(second)
        entries = [json.loads(file.read_text())["keys"][0] for file in (first, second)]
        first.write_text(json.dumps({"version": 1, "keys": entries}))

        keys = MasterKeys.load_or_create(first)

        assert keys.unseal(old, context=CONTEXT) == b"secret"
        assert keys.seal(b"", context=CONTEXT)[1:5].hex() == entries[1]["id"]

    @pytest.mark.parametrize(
        "content",
        [
            "",
            "{",
            "[]",
            "null",
            '"keys"',
            "[" * 100_000,
            "{}",
            '{"version": 1, "keys": []}',
            '{"version": 1, "keys": {}}',
            '{"version": 1, "keys": [1]}',
            '{"version": 1, "keys": [{"id": "00000001"}]}',
            '{"version": 1, "keys": [{"id": "00000001", "key": "AAAA"}]}',
            '{"version": 1, "keys": [{"id": "01", "key": "' + "A" * 43 + '="}]}',
            '{"version": 1, "keys": [{"id": "zz000001", "key": "' + "A" * 43 + '="}]}',
            '{"version": 1, "keys": [{"id": "00000001", "key": "' + "!" * 43 + '="}]}',
            '{"version": 1, "keys": [{"id": "00000001", "key": 7}]}',
            '{"version": 2, "keys": [{"id": "00000001", "key": "' + "A" * 43 + '="}]}',
        ],
    )
    def test_a_damaged_file_is_named_and_left_alone(self, tmp_path, content):
        path = tmp_path / "key"
        path.write_text(content)
        path.chmod(0o600)

        with pytest.raises(DecryptionFailed, match=str(path)):
            MasterKeys.load_or_create(path)
        assert path.read_text() == content

    def test_two_keys_of_one_id_are_refused(self, tmp_path):
        path = tmp_path / "key"
        MasterKeys.load_or_create(path)
        content = json.loads(path.read_text())
        path.write_text(json.dumps({"version": 1, "keys": content["keys"] * 2}))

        with pytest.raises(DecryptionFailed, match="two with the same id"):
            MasterKeys.load_or_create(path)

    def test_what_is_no_file_is_refused_without_waiting(self, tmp_path):
        os.mkfifo(tmp_path / "fifo", 0o600)

        for path in (tmp_path / "fifo", tmp_path):
            with pytest.raises(DecryptionFailed, match="not a regular file"):
                MasterKeys.load_or_create(path)

    def test_a_folder_that_cannot_be_made_is_named(self, tmp_path):
        (tmp_path / "file").touch()

        with pytest.raises(DecryptionFailed, match="cannot read"):
            MasterKeys.load_or_create(tmp_path / "file" / "key")
