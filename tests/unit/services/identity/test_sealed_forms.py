"""A form that a browser carries through a log-in tells nothing, and comes back whole or not at all."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.auth.sealing import MasterKeys
from pilothouse.services.identity.sealed_forms import SealedForms

FORMS = SealedForms(MasterKeys({b"form": bytes(32)}))


@given(st.dictionaries(st.text(), st.text(max_size=2000), max_size=5))
def test_what_is_sealed_is_opened_as_it_was(fields: dict[str, str]):
    assert FORMS.open(FORMS.seal(fields)) == fields


def test_a_sealed_form_shows_none_of_its_texts_and_is_another_each_time():
    fields = {"kubeconfig": "secret " * 20}
    sealed = FORMS.seal(fields)
    assert "secret" not in sealed
    assert sealed != FORMS.seal(fields)


@pytest.mark.parametrize("text", ["", "no base64!", "AAAA", FORMS.seal({"a": "b"})[:-4], "\N{SNOWMAN}"])
def test_what_was_not_sealed_here_is_nothing(text: str):
    assert FORMS.open(text) == {}


def test_what_another_server_has_sealed_is_nothing():
    other = SealedForms(MasterKeys({b"form": bytes([7]) * 32}))
    assert FORMS.open(other.seal({"a": "b"})) == {}
