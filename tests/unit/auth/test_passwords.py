"""Passwords and generated keys."""

import re
from itertools import cycle

import pytest

from pilothouse.auth.passwords import (
    generate_access_key,
    generate_password,
    generate_secret_key,
    hash_password,
    needs_rehash,
    verify_password,
)
from pilothouse.errors import InvalidRequest


def test_a_password_proves_itself_and_no_other_does():
    stored = hash_password("correct horse")

    assert stored.startswith("$argon2id$")
    assert verify_password("correct horse", stored)
    for other in ("", "correct horsf", "correct horse ", "CORRECT HORSE"):
        assert not verify_password(other, stored)


def test_unicode_passwords():
    assert verify_password("пароль 中文 🔑", hash_password("пароль 中文 🔑"))


def test_equal_passwords_have_different_hashes_and_the_salt_is_a_parameter():
    assert hash_password("a") != hash_password("a")
    fixed = [hash_password("a", random_bytes=lambda size: b"s" * size) for _ in range(2)]
    assert fixed[0] == fixed[1]


@pytest.mark.parametrize("password", ["", "x" * 1025, "\ud800"])
def test_what_cannot_be_a_password(password):
    with pytest.raises(InvalidRequest, match="1 to 1024"):
        hash_password(password)
    assert not verify_password(password, hash_password("a"))


@pytest.mark.parametrize("stored", ["", "x", "$argon2id$", "$argon2id$v=19$m=12288,t=3,p=1$AAAA$AAAA", "$2b$12$abc"])
def test_a_damaged_hash_lets_nobody_in(stored):
    assert not verify_password("a", stored)


def test_a_hash_of_weaker_parameters_is_noticed():
    stored = hash_password("a")

    assert not needs_rehash(stored)
    assert needs_rehash(stored.replace("t=3", "t=1"))


def test_forms_of_generated_values():
    for _ in range(200):
        assert re.fullmatch(r"[A-Z0-9]{20}", generate_access_key())
        assert re.fullmatch(r"[A-Za-z0-9]{40}", generate_secret_key())
        assert re.fullmatch(r"[A-HJ-NP-Za-km-z2-9]{24}", generate_password())


def test_they_do_not_repeat():
    for generate in (generate_access_key, generate_secret_key, generate_password):
        assert len({generate() for _ in range(500)}) == 500


def test_randomness_comes_from_the_parameter():
    positions = cycle((0, 1, 2))

    assert generate_access_key(lambda alphabet: alphabet[next(positions)]) == "ABCABCABCABCABCABCAB"
