"""Log-in from a terminal: what proves that ID token and access token were given together, at providers of all kinds."""

import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from joserfc import jwt
from joserfc.jwk import OKPKey

from pilothouse.errors import NotAuthenticated, ProviderUnavailable
from pilothouse.oidc.device_flow import DeviceFlow
from pilothouse.oidc.provider import Provider
from tests.support.oidc_peer import TERMINAL, OidcPeer, run_peer

#: Of the access token "opaque", by SHA-256.
AT_HASH = "bSKYhMEmi7CrMtjaMV0P5Q"
OPAQUE = "opaque"
NAMED = {"preferred_username": "alice", "groups": ["devs"]}
INFO = "/userinfo"


@pytest.fixture
async def issuer(tmp_path: Path) -> AsyncIterator[OidcPeer]:
    async with run_peer(tmp_path) as made:
        made.describes_itself(userinfo_endpoint=made.issuer + INFO)
        made.says(INFO, {"sub": "alice-1"})
        yield made


async def accept(
    issuer: OidcPeer, token: str, access_token: str = OPAQUE, *, provider: Provider | None = None
) -> dict[str, Any]:
    asked = provider or issuer.provider()
    flow = DeviceFlow({"corp": asked})
    try:
        said = await flow.accept("corp", id_token=token, access_token=access_token, source="192.0.2.1")
    finally:
        await asked.close()
    return dict(said.claims)


def given(issuer: OidcPeer, **changed: Any) -> str:
    """Return an ID token that is right in everything, changed; None removes a claim."""
    return issuer.token(**{"aud": TERMINAL, "at_hash": AT_HASH, **NAMED, **changed})


async def test_a_hash_of_the_access_token_proves_it_without_the_user_info(issuer: OidcPeer):
    assert (await accept(issuer, given(issuer)))["sub"] == "alice-1"
    assert INFO not in issuer.asked
    for access_token in ("garbage", ""):
        with pytest.raises(NotAuthenticated, match="another access token"):
            await accept(issuer, given(issuer), access_token)


async def test_without_a_hash_the_user_info_of_the_access_token_does(issuer: OidcPeer):
    token = given(issuer, at_hash=None)
    assert (await accept(issuer, token))["sub"] == "alice-1"
    assert issuer.asked.count(INFO) == 1, "though the ID token has all that is wanted"
    issuer.says(INFO, {"sub": "bob-1"})
    with pytest.raises(NotAuthenticated, match="another person"):
        await accept(issuer, token)
    for status in (401, 403):
        issuer.says(INFO, {}, status=status)
        with pytest.raises(NotAuthenticated, match="does not show its user info for this access token"):
            await accept(issuer, token, "garbage")
    issuer.says(INFO, {}, status=500)
    with pytest.raises(ProviderUnavailable):
        await accept(issuer, token)
    issuer.describes_itself()
    with pytest.raises(NotAuthenticated, match="no user info that could tell"):
        await accept(issuer, token)


async def test_what_was_made_for_something_else_is_no_log_in(issuer: OidcPeer):
    for changed, why in (
        ({"header": {"typ": "at+jwt"}, "client_id": "evil-app"}, "something else than a log-in"),
        ({"client_id": "evil-app"}, "another client"),
        ({"azp": "evil-app"}, "another client"),
        ({"nonce": "n-1"}, "another log-in"),
        ({"nonce": ["n-1"]}, "another log-in"),
    ):
        for at_hash in (AT_HASH, None):
            with pytest.raises(NotAuthenticated, match=why):
                await accept(issuer, given(issuer, at_hash=at_hash, **changed))
    assert INFO not in issuer.asked
    assert await accept(issuer, given(issuer, nonce="", client_id=TERMINAL, azp=TERMINAL))


async def test_what_is_too_old_is_refused_before_anybody_is_asked(issuer: OidcPeer):
    now = int(time.time())
    with pytest.raises(NotAuthenticated, match="took too long"):
        await accept(issuer, given(issuer, at_hash=None, iat=now - 700, exp=now + 600))
    assert INFO not in issuer.asked


@pytest.mark.parametrize(
    ("curve", "at_hash"),
    [
        ("Ed25519", "fbMJhlShp9jmuAqXBJET-ShZLVNUaW7dkNnxSGjGex8"),
        ("Ed448", "16yP0uRcu-zJoU8SPl1HRHhklxh_E85RdP7sbHZm_TONzVIE_2GKTO0u2RYEW9twCiFNW-s6v4zc"),
    ],
)
async def test_providers_that_sign_by_edwards_curves_are_understood(issuer: OidcPeer, curve: Any, at_hash: str):
    key = OKPKey.generate_key(curve, {"kid": "edwards", "alg": curve})
    issuer.publishes(key)
    for said, access_token in ((at_hash, OPAQUE), (AT_HASH, OPAQUE), (at_hash, "garbage")):
        claims = issuer.claims(aud=TERMINAL, at_hash=said, **NAMED)
        token = jwt.encode({"alg": curve, "kid": "edwards"}, claims, key, algorithms=[curve])
        provider = issuer.provider(algorithms=[curve])
        if (said, access_token) == (at_hash, OPAQUE):
            assert (await accept(issuer, token, provider=provider))["sub"] == "alice-1"
            continue
        with pytest.raises(NotAuthenticated, match="another access token"):
            await accept(issuer, token, access_token, provider=provider)
