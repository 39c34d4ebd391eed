"""Changing the master keys: what the file holds after each step, and who owns it."""

import os
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pilothouse.auth.key_file import KeyRing, change_keys, read_keys, write_keys
from pilothouse.auth.sealing import MasterKeys, key_id_of
from pilothouse.errors import DecryptionFailed
from pilothouse.services.admin.master_keys import begin_new_key, stage_key

NOW = datetime(2031, 5, 1, 12, tzinfo=UTC)
CONTEXT = "access-key:A1B2C3D4E5F6G7H8I9J0"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    MasterKeys.load_or_create(tmp_path / "master.key")
    return tmp_path / "master.key"


def test_a_new_key_seals_and_the_old_one_is_retired(path: Path):
    old = read_keys(path).sealing
    new = begin_new_key(path, now=NOW)
    ring = read_keys(path)
    assert ring.sealing == new.id != old
    assert [(key.id, key.retired_at) for key in ring.keys] == [(old, NOW), (new.id, None)]


def test_a_staged_key_opens_but_does_not_seal_until_its_turn(path: Path):
    old = read_keys(path).sealing
    staged = stage_key(path, now=NOW)
    assert stage_key(path, now=NOW) == staged
    assert key_id_of(MasterKeys.load_or_create(path).seal(b"", context=CONTEXT)) == old
    assert begin_new_key(path, now=NOW + timedelta(hours=1)).id == staged.id
    assert len(read_keys(path).keys) == 2


def test_the_changed_file_stays_private_and_no_other_file_stays(path: Path):
    begin_new_key(path, now=NOW)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can change the file of another account")
def test_the_file_of_another_account_stays_that_accounts_when_root_changes_it(path: Path):
    os.chown(path, 65534, 65534)
    begin_new_key(path, now=NOW)
    assert (path.stat().st_uid, path.stat().st_gid) == (65534, 65534)


def test_a_change_that_fails_leaves_the_file_as_it_was(path: Path):
    before = path.read_bytes()

    def fail(_: KeyRing) -> KeyRing:
        raise RuntimeError

    with pytest.raises(RuntimeError):
        change_keys(path, fail)
    assert path.read_bytes() == before


def test_changes_at_the_same_time_lose_no_key(path: Path):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: begin_new_key(path, now=NOW).id, range(16)))
    assert {key.id for key in read_keys(path).keys} >= set(made)


def test_an_id_that_is_taken_is_not_used_again(path: Path):
    taken = read_keys(path).keys[0].id
    answers = iter([bytes.fromhex(taken), b"\x00\x00\x00\x07", b"k" * 32])

    def rigged(size: int) -> bytes:
        return next(answers, os.urandom(size))

    assert begin_new_key(path, now=NOW, random_bytes=rigged).id == "00000007"


def test_no_file_is_an_error_where_one_is_needed(tmp_path: Path):
    with pytest.raises(DecryptionFailed, match="there is no master key file"):
        begin_new_key(tmp_path / "master.key", now=NOW)
    with pytest.raises(DecryptionFailed, match="there is no master key file"):
        begin_new_key(tmp_path / "absent" / "master.key", now=NOW)


def test_a_file_from_elsewhere_never_replaces_other_keys(path: Path, tmp_path: Path):
    content = path.read_bytes()
    write_keys(tmp_path / "elsewhere" / "master.key", content)
    assert read_keys(tmp_path / "elsewhere" / "master.key") == read_keys(path)
    write_keys(path, content)
    MasterKeys.load_or_create(tmp_path / "other")
    with pytest.raises(DecryptionFailed, match="contains other keys"):
        write_keys(tmp_path / "other", content)


class TestRunningProcesses:
    def test_they_seal_with_a_new_key_from_the_next_value_on(self, path: Path):
        running = MasterKeys.load_or_create(path)
        new = begin_new_key(path, now=NOW)
        assert key_id_of(running.seal(b"secret", context=CONTEXT)) == new.id

    def test_they_open_what_another_process_sealed_with_a_new_key(self, path: Path):
        running = MasterKeys.load_or_create(path)
        begin_new_key(path, now=NOW)
        sealed = MasterKeys.load_or_create(path).seal(b"secret", context=CONTEXT)
        assert running.unseal(sealed, context=CONTEXT) == b"secret"

    @pytest.mark.parametrize("damage", ["gone", "nonsense", "open"])
    def test_they_go_on_with_what_they_have_when_the_file_is_damaged(self, path: Path, damage: str):
        running = MasterKeys.load_or_create(path)
        sealed = running.seal(b"secret", context=CONTEXT)
        if damage == "gone":
            path.unlink()
        elif damage == "nonsense":
            path.write_text("nonsense")
        else:
            path.chmod(0o644)
            os.utime(path)
        assert running.unseal(running.seal(b"new", context=CONTEXT), context=CONTEXT) == b"new"
        assert running.unseal(sealed, context=CONTEXT) == b"secret"


class TestResealing:
    def test_a_value_goes_under_the_new_key_and_opens_in_its_context_alone(self, path: Path):
        keys = MasterKeys.load_or_create(path)
        sealed = keys.seal(b"secret", context=CONTEXT)
        new = begin_new_key(path, now=NOW)
        fresh = keys.reseal(sealed, what="it")
        assert key_id_of(fresh) == new.id
        assert keys.unseal(fresh, context=CONTEXT) == b"secret"
        with pytest.raises(DecryptionFailed):
            keys.unseal(fresh, context="access-key:OTHER")

    def test_a_damaged_value_is_named(self, path: Path):
        keys = MasterKeys.load_or_create(path)
        sealed = bytearray(keys.seal(b"secret", context=CONTEXT))
        sealed[20] ^= 1
        with pytest.raises(DecryptionFailed, match=r"clusters\.kubeconfig_sealed of c1"):
            keys.reseal(bytes(sealed), what="clusters.kubeconfig_sealed of c1")
