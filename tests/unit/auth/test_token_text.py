"""The text of tokens: random, recognisable, and nothing else is looked up."""

import hashlib

from hypothesis import example, given
from hypothesis import strategies as st

from pilothouse.auth.tokens import new_token, token_digest


def test_each_is_new_and_is_found_by_its_hash():
    tokens = {new_token() for _ in range(500)}

    assert len(tokens) == 500
    assert all(token_digest(one) == hashlib.sha256(one.encode()).hexdigest() for one in tokens)


def test_it_holds_256_random_bits():
    asked: list[int] = []

    def random_text(size: int) -> str:
        asked.append(size)
        return "A" * 43

    assert (new_token(random_text), asked) == ("pht-" + "A" * 43, [32])


@given(st.text(max_size=80) | st.text("pht-Az09_é\n", min_size=40, max_size=50))
@example("pht-" + "A" * 43 + "\n")
@example("pht-" + "A" * 42)
@example("pht-" + "A" * 44)
@example("pht-" + "٣" * 43)
@example("")
def test_other_text_is_no_token(text: str):
    digest = token_digest(text)

    if digest is not None:
        assert len(text) == 47
        assert text.startswith("pht-")
        assert text.isascii()


@given(st.integers(0, 46), st.characters(exclude_categories=["Cs"]))
def test_a_token_with_one_character_changed_has_another_hash_or_none(position: int, character: str):
    token = new_token()
    mangled = token[:position] + character + token[position + 1 :]

    assert mangled == token or token_digest(mangled) != token_digest(token)
