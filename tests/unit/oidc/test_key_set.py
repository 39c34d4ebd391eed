"""Which keys of a published set verify anything."""

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from pilothouse.errors import ProviderUnavailable
from pilothouse.oidc.key_set import KeySet
from tests.support.oidc_peer import CURVE_KEY, KEY, OTHER_KEY


def published(key: RSAKey | ECKey, **changed: object) -> dict[str, object]:
    return {**key.as_dict(private=False), **changed}


def test_a_key_is_found_by_its_id_and_for_its_algorithm():
    keys = KeySet({"keys": [published(KEY), published(OTHER_KEY), published(CURVE_KEY)]})
    assert keys.find("first", "RS256") is not None
    assert keys.find("first", "RS512") is None, "its alg says RS256"
    assert keys.find("second", "PS256") is not None
    assert keys.find("first", "ES256") is None
    assert keys.find("curve", "ES256") is not None
    assert keys.find("third", "RS256") is None
    assert keys.find(None, "ES256") is not None, "the only one of its kind"
    assert keys.find(None, "RS256") is None, "either of two"
    assert keys.find("first", "HS256") is None
    assert keys.find("first", "none") is None


def test_what_cannot_verify_signatures_is_passed_over():
    weak = {**published(KEY), "n": "AQAB"}
    slow = {**published(KEY), "e": "_" * 340}
    huge = {**published(KEY), "n": "_" * 3000}
    odd: list[object] = [
        *(weak, slow, huge, "text", None, {}, {"kty": "RSA"}, {"kty": ["RSA"]}, {"kty": "RSA", "n": 1, "e": "AQAB"}),
        *(published(KEY, use="enc"), published(KEY, n="!!"), {**published(CURVE_KEY), "x": "AAAA"}),
        *(published(CURVE_KEY, crv="P-1"), OctKey.generate_key(256, {"kid": "first"}).as_dict()),
        *({"kty": "AKP", "kid": "first"}, published(KEY, kid="k" * 300), published(KEY, kid=7)),
    ]
    keys = KeySet({"keys": odd})
    assert keys.find("first", "RS256") is None
    assert keys.find("first", "HS256") is None
    assert keys.find("curve", "ES256") is None
    assert KeySet({"keys": [*odd, published(KEY)]}).find("first", "RS256") is not None, "beside one that can"


def test_a_private_key_that_is_published_verifies_and_signs_nothing():
    found = KeySet({"keys": [KEY.as_dict(private=True)]}).find("first", "RS256")
    assert found is not None
    assert not found.is_private


def test_a_set_that_is_none_is_named():
    for document in ({}, {"keys": None}, {"keys": {"a": 1}}):
        with pytest.raises(ProviderUnavailable, match="no list 'keys'"):
            KeySet(document)
    with pytest.raises(ProviderUnavailable, match="101 keys"):
        KeySet({"keys": [{}] * 101})
