"""Which JSON Web Tokens are believed: one that is right in everything, and none that is wrong in one thing."""

import base64
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from pilothouse.errors import NotAuthenticated
from pilothouse.oidc.verification import verify_bearer, verify_id_token
from tests.support.oidc_peer import AUDIENCE, CLIENT, CURVE_KEY, KEY, OTHER_KEY, OidcPeer, run_peer


@pytest.fixture
async def issuer(tmp_path: Path) -> AsyncIterator[OidcPeer]:
    async with run_peer(tmp_path) as made:
        yield made


async def check(issuer: OidcPeer, token: str, **settings: Any) -> dict[str, Any]:
    provider = issuer.provider(**settings)
    try:
        return dict((await verify_bearer(token, {issuer.issuer: provider})).claims)
    finally:
        await provider.close()


def encoded(value: Any) -> str:
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(text).rstrip(b"=").decode()


def unsigned(issuer: OidcPeer, algorithm: str, signature: str = "") -> str:
    return f"{encoded({'alg': algorithm, 'kid': 'first'})}.{encoded(issuer.claims())}.{signature}"


def by_public_key(issuer: OidcPeer) -> str:
    """Sign with the published key as if it were a secret: who verifies by the token's own algorithm believes it."""
    signed = f"{encoded({'alg': 'HS256', 'kid': 'first'})}.{encoded(issuer.claims())}"
    return f"{signed}.{encoded(hmac.digest(KEY.as_pem(private=False), signed.encode(), 'sha256'))}"


def with_header(issuer: OidcPeer, header: Any) -> str:
    return f"{encoded(header)}.{encoded(issuer.claims())}.{issuer.token().rpartition('.')[2]}"


def with_claims(issuer: OidcPeer, claims: Any) -> str:
    header = encoded({"alg": "RS256", "kid": "first"})
    return f"{header}.{encoded(claims)}.{issuer.token().rpartition('.')[2]}"


async def test_a_token_that_is_right_in_everything_says_who_it_is(issuer: OidcPeer):
    said = await check(issuer, issuer.token(groups=["devs"]))
    assert (said["sub"], said["groups"]) == ("alice-1", ["devs"])
    for token in (
        issuer.token(key=CURVE_KEY),
        issuer.token(aud=["others", AUDIENCE]),
        issuer.token(header={"typ": "at+jwt"}),
        issuer.token(header={"kid": "curve", "alg": "ES256"}, key=CURVE_KEY),
        issuer.token(iat=int(time.time()) + 20),
    ):
        assert (await check(issuer, token))["sub"] == "alice-1"


FORGED: dict[str, tuple[Callable[[OidcPeer], str], str]] = {
    "no algorithm": (lambda one: unsigned(one, "none"), "not signed with one of RS256"),
    "no algorithm, in other letters": (lambda one: unsigned(one, "nOnE"), "not signed with one of"),
    "no algorithm, with a signature": (lambda one: unsigned(one, "none", "AAAA"), "not signed with one of"),
    "no signature": (lambda one: unsigned(one, "RS256"), "signature is wrong"),
    "the public key as a secret": (by_public_key, "not signed with one of"),
    "an algorithm of another kind of key": (lambda one: unsigned(one, "ES256", "AAAA"), "does not publish"),
    "another key": (lambda one: one.token(key=OTHER_KEY, header={"kid": "first"}), "signature is wrong"),
    "a key that is not published": (lambda one: one.token(key=OTHER_KEY), "does not publish"),
    "its own key in its header": (
        lambda one: one.token(key=OTHER_KEY, header={"jwk": OTHER_KEY.as_dict(private=False)}),
        "does not publish",
    ),
    "an address of keys in its header": (
        lambda one: one.token(key=OTHER_KEY, header={"jku": f"{one.issuer}/elsewhere"}),
        "does not publish",
    ),
    "a changed claim": (
        lambda one: with_claims(one, one.claims(sub="root")),
        "signature is wrong",
    ),
    "another issuer": (lambda one: one.token(iss="https://elsewhere.example"), "issuer is none"),
    "an issuer with a slash more": (lambda one: one.token(iss=one.issuer + "/"), "issuer is none"),
    "no issuer": (lambda one: one.token(iss=None), "issuer is none"),
    "issuers": (lambda one: one.token(iss=[one.issuer]), "issuer is none"),
    "another audience": (lambda one: one.token(aud="others"), "another audience"),
    "a part of the audience": (lambda one: one.token(aud=AUDIENCE[:-1]), "another audience"),
    "no audience": (lambda one: one.token(aud=None), "lacks the claims aud"),
    "audiences of another kind": (lambda one: one.token(aud=[[AUDIENCE]]), "another audience"),
    "expired": (lambda one: one.token(exp=int(time.time()) - 60, iat=int(time.time()) - 90), "has expired"),
    "no end": (lambda one: one.token(exp=None), "lacks the claims exp"),
    "an end that is text": (lambda one: one.token(exp="9999999999"), "as a number"),
    "an end that is true": (lambda one: one.token(exp=True), "as a number"),
    "an end far away": (lambda one: one.token(exp=int(time.time()) + 90_000), "valid for more than"),
    "an end of many digits": (lambda one: one.token(exp=10**400), "damaged"),
    "an end after the last year": (lambda one: one.token(exp=1e300), "valid for more than"),
    "an end that is no number": (lambda one: one.token(exp=float("nan")), "damaged"),
    "a beginning long ago": (lambda one: one.token(iat=-(10**12)), "valid for more than"),
    "not yet valid": (lambda one: one.token(nbf=int(time.time()) + 90), "not valid yet"),
    "made in the future": (lambda one: one.token(iat=int(time.time()) + 90), "in the future"),
    "no time of making": (lambda one: one.token(iat=None), "lacks the claims iat"),
    "no subject": (lambda one: one.token(sub=None), "lacks the claims sub"),
    "a subject that is a number": (lambda one: one.token(sub=7), "claim sub"),
    "for ending sessions": (lambda one: one.token(header={"typ": "logout+jwt"}), "something else"),
    "with an extension that must be understood": (
        lambda one: with_header(one, {"alg": "RS256", "kid": "first", "crit": ["x"], "x": 1}),
        "something else",
    ),
    "no text": (lambda _one: "a.b.c", "damaged"),
    "a header that is a list": (lambda one: with_header(one, []), "damaged"),
    "a header without an algorithm": (lambda one: with_header(one, {}), "malformed"),
    "a key id that is a number": (lambda one: with_header(one, {"alg": "RS256", "kid": 1}), "malformed"),
    "claims that are a list": (lambda one: with_claims(one, []), "damaged"),
    "claims that are no JSON": (lambda one: with_claims(one, b"{"), "damaged"),
    "claims nested 900 deep": (lambda one: with_claims(one, b'{"a":' + b"[" * 900 + b"]" * 900 + b"}"), "issuer is"),
    "claims nested 5,000 deep": (lambda one: with_claims(one, b"[" * 5000 + b"]" * 5000), "damaged"),
    "five parts": (lambda _one: "a.b.c.d.e", "no JSON Web Token"),
    "longer than allowed": (lambda one: one.token(more="x" * 20_000), "longer than 16384 bytes"),
}


@pytest.mark.parametrize("name", FORGED)
async def test_a_token_that_is_wrong_in_one_thing_is_refused_with_that(issuer: OidcPeer, name: str):
    make, why = FORGED[name]
    with pytest.raises(NotAuthenticated, match=why) as refused:
        await check(issuer, make(issuer))
    assert str(refused.value).startswith("decrypt token fail, ")
    assert "/elsewhere" not in issuer.asked


async def test_claims_that_the_settings_require_are_required(issuer: OidcPeer):
    wanted = {"repository_owner": "example"}
    for owner in ("example", ["a", "example"]):
        assert await check(issuer, issuer.token(repository_owner=owner), required_claims=wanted)
    others: list[Any] = ["example2", None, {}, ["example2"], 1]
    for wrong in others:
        with pytest.raises(NotAuthenticated, match="its claim repository_owner is not what this server requires"):
            await check(issuer, issuer.token(repository_owner=wrong), required_claims=wanted)


@pytest.mark.parametrize(
    ("claim", "seconds_ago"),
    [(None, None), (-60, 60), (0, 0), (5, None), ("a minute ago", None), (True, None)],
)
async def test_who_logged_in_when_is_what_the_token_says_of_it(issuer: OidcPeer, claim: Any, seconds_ago: float | None):
    made_at = int(time.time())
    auth_time = made_at + claim if type(claim) is int else claim
    provider = issuer.provider()
    statement = await verify_bearer(issuer.token(iat=made_at, auth_time=auth_time), {issuer.issuer: provider})
    await provider.close()
    assert statement.proved_at == (None if seconds_ago is None else made_at - seconds_ago)


async def test_only_algorithms_of_the_settings_count(issuer: OidcPeer):
    with pytest.raises(NotAuthenticated, match="not signed with one of ES256"):
        await check(issuer, issuer.token(), algorithms=["ES256"])


async def test_an_id_token_belongs_to_its_log_in(issuer: OidcPeer):
    provider = issuer.provider()

    async def ask(**claims: Any) -> str:
        token = issuer.token(**{"aud": CLIENT, "nonce": "n-1", **claims})
        statement = await verify_id_token(token, provider, client_id=CLIENT, nonce="n-1", access_token="opaque")
        return str(statement.claims["sub"])

    assert await ask() == "alice-1"
    for claims, why in (
        ({"nonce": "n-2"}, "another log-in"),
        ({"nonce": None}, "lacks the claims nonce"),
        ({"nonce": ["n-1"]}, "lacks the claims nonce"),
        ({"aud": AUDIENCE}, "another audience"),
        ({"aud": [CLIENT, "others"]}, "lacks the claims azp"),
        ({"azp": "others"}, "another client"),
        ({"client_id": "others"}, "another client"),
        ({"at_hash": "x"}, "another access token"),
        ({"at_hash": "ä"}, "another access token"),
        ({"at_hash": ""}, "another access token"),
        ({"at_hash": 7}, "another access token"),
        ({"header": {"typ": "at+jwt"}}, "something else than a log-in"),
        ({"header": {"typ": "application/at+jwt"}}, "something else than a log-in"),
        ({"iss": "https://elsewhere.example"}, "iss"),
    ):
        with pytest.raises(NotAuthenticated, match=why):
            await ask(**claims)
    await provider.close()
