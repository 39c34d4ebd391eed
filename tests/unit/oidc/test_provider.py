"""What a provider answers, and what it cannot do to us: it is asked rarely, for little, and only where allowed."""

import asyncio
import gzip
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from traceback import walk_tb
from typing import Any

import pytest

from pilothouse.errors import NotAuthenticated, ProviderUnavailable
from pilothouse.oidc.verification import verify_bearer
from tests.support.oidc_peer import KEY, OTHER_KEY, OidcPeer, run_peer


@pytest.fixture
async def issuer(tmp_path: Path) -> AsyncIterator[OidcPeer]:
    async with run_peer(tmp_path) as made:
        yield made


class Clock:
    """A clock that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


async def refusal(issuer: OidcPeer, **settings: Any) -> str:
    """Return why nobody can be verified by what the provider answers, as the log has it."""
    provider = issuer.provider(**settings)
    with pytest.raises(ProviderUnavailable) as refused:
        await verify_bearer(issuer.token(), {issuer.issuer: provider})
    await provider.close()
    assert str(refused.value) == "the identity provider corp cannot be used now", "strangers are told no more"
    return refused.value.cause


async def test_what_a_provider_must_not_answer_is_named(issuer: OidcPeer):
    keys = issuer.answers["/keys"]
    many = {"keys": [KEY.as_dict(private=False)] * 101}
    away = f"{issuer.issuer}/elsewhere"
    for path, answer, why in (
        ("/.well-known/openid-configuration", (302, {"location": away}, b""), "answered 302"),
        ("/.well-known/openid-configuration", (500, {}, b""), "answered 500"),
        ("/.well-known/openid-configuration", (200, {}, b"<html>"), "not JSON"),
        ("/.well-known/openid-configuration", (200, {}, b"[]"), "JSON object"),
        ("/.well-known/openid-configuration", (200, {}, b"[" * 100_000), "not JSON"),
        ("/.well-known/openid-configuration", (200, {}, b"x" * 300_000), "the connection failed"),
        ("/.well-known/openid-configuration", (200, {"content_encoding": "gzip"}, gzip.compress(b"{}")), "connection"),
        ("/keys", (307, {"location": away}, b""), "answered 307"),
        ("/keys", (200, {}, json.dumps(many).encode()), "has 101 keys; at most 100"),
        ("/keys", (200, {}, b'{"keys": {}}'), "no list"),
    ):
        issuer.describes_itself()
        issuer.answers[path] = answer
        told = await refusal(issuer)
        assert why in told, (told, why)
    issuer.answers["/keys"] = keys
    assert "/elsewhere" not in issuer.asked, "redirects are not followed"


async def test_a_description_that_lies_is_not_believed(issuer: OidcPeer):
    for fields, why in (
        ({"issuer": "https://elsewhere.example"}, "calls itself another issuer"),
        ({"issuer": None}, "calls itself another issuer"),
        ({"jwks_uri": None}, "no https address as jwks_uri"),
        ({"jwks_uri": "file:///etc/passwd"}, "no https address as jwks_uri"),
        ({"jwks_uri": ""}, "does not say its jwks_uri"),
        ({"jwks_uri": ["https://a.example"]}, "no https address as jwks_uri"),
        ({"jwks_uri": "http://169.254.169.254/keys"}, "link-local or a metadata service, not a identity provider"),
        ({"jwks_uri": "http://[::1:/keys"}, "no https address"),
        ({"token_endpoint": "ftp://a.example"}, "no https address as token_endpoint"),
    ):
        issuer.describes_itself(**fields)
        told = await refusal(issuer)
        assert why in told, (told, why)


async def test_this_machine_is_refused_unless_it_is_allowed(issuer: OidcPeer):
    told = await refusal(issuer, allow_loopback=False)
    assert "127.0.0.1 is this machine; to allow that, list it in PILOTHOUSE_OIDC__ALLOWED" in told
    assert "PILOTHOUSE_OIDC__ALLOW_LOOPBACK=true" in told
    assert issuer.asked == []


async def test_a_provider_that_hangs_is_left_after_its_time(issuer: OidcPeer):
    issuer.hangs = {"/keys"}
    began = time.monotonic()
    assert "did not answer within 0.3 s" in await refusal(issuer, answer_seconds=0.3)
    assert time.monotonic() - began < 10


async def test_unknown_keys_are_asked_for_once_in_a_while_whatever_tokens_name(issuer: OidcPeer):
    clock = Clock()
    provider = issuer.provider(clock)
    providers = {issuer.issuer: provider}
    assert await verify_bearer(issuer.token(), providers)
    clock.now += 31
    unknown = [issuer.token(key=OTHER_KEY, header={"kid": f"k{number}"}) for number in range(20)]
    ends = await asyncio.gather(*(verify_bearer(one, providers) for one in unknown), return_exceptions=True)
    assert all(isinstance(one, NotAuthenticated) for one in ends)
    assert issuer.asked.count("/keys") == 2
    issuer.publishes(KEY, OTHER_KEY)
    with pytest.raises(NotAuthenticated, match="does not publish"):
        await verify_bearer(issuer.token(key=OTHER_KEY), providers)
    clock.now += 31
    assert await verify_bearer(issuer.token(key=OTHER_KEY), providers), "a new key is found by itself"
    issuer.publishes(OTHER_KEY)
    clock.now += 601
    assert await verify_bearer(issuer.token(), providers), "old keys count while new ones are fetched"
    await provider._keys.get_newer()  # the fetch that was begun beside
    with pytest.raises(NotAuthenticated, match="does not publish"):
        await verify_bearer(issuer.token(), providers)
    await provider.close()


async def test_known_keys_count_for_a_while_when_the_provider_is_down(issuer: OidcPeer):
    clock = Clock()
    provider = issuer.provider(clock, kept_seconds=3600)
    providers = {issuer.issuer: provider}
    assert await verify_bearer(issuer.token(), providers)
    issuer.answers.clear()
    clock.now += 3599
    assert await verify_bearer(issuer.token(), providers)
    await provider._keys.get_newer()
    assert await verify_bearer(issuer.token(), providers), "asking in vain takes nothing away"
    clock.now += 31
    asked = 0
    raised: list[ProviderUnavailable] = []
    for _ in range(5):
        with pytest.raises(ProviderUnavailable) as refused:
            await verify_bearer(issuer.token(), providers)
        assert refused.value.cause.endswith("answered 404")
        asked, raised = asked or len(issuer.asked), [*raised, refused.value]
    lengths = {sum(1 for _ in walk_tb(one.__traceback__)) for one in raised[1:]}
    assert (len({id(one) for one in raised}), len(lengths)) == (5, 1), "what is kept gathers no callers"
    assert len(issuer.asked) == asked, "and is not asked again at once"
    issuer.describes_itself()
    clock.now += 31
    assert await verify_bearer(issuer.token(), providers)
    await provider.close()
