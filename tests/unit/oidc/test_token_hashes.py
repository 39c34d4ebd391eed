"""The hash by which an ID token names its access token, of each algorithm of the settings."""

import pytest

from pilothouse.oidc.configuration import ALGORITHMS
from pilothouse.oidc.token_hashes import half_hash

#: Each by `printf opaque | openssl dgst -binary`, of which the left half is in base64url; shake256 with -xoflen 114.
OF_OPAQUE = {
    "256": "bSKYhMEmi7CrMtjaMV0P5Q",
    "384": "r4fRMzLLjsZ2n1Iv3-hxo7piIBhARm0O",
    "512": "fbMJhlShp9jmuAqXBJET-ShZLVNUaW7dkNnxSGjGex8",
    "Ed25519": "fbMJhlShp9jmuAqXBJET-ShZLVNUaW7dkNnxSGjGex8",
    "Ed448": "16yP0uRcu-zJoU8SPl1HRHhklxh_E85RdP7sbHZm_TONzVIE_2GKTO0u2RYEW9twCiFNW-s6v4zc",
}


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_the_left_half_of_the_hash_of_the_algorithm(algorithm: str):
    wanted = OF_OPAQUE[algorithm if algorithm in OF_OPAQUE else algorithm[-3:]]
    assert half_hash("opaque", algorithm) == wanted


def test_the_example_of_the_standard():
    """OpenID Connect Core 1.0, appendix A.3."""
    assert half_hash("jHkWEdUXMU1BwAsC4vtUsZwnNvTIxEl0z9K3vx5KF0Y", "RS256") == "77QmUPtjPfzWtF2AnpK9RQ"
