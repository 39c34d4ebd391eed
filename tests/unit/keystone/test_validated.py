"""How often Keystone is asked, by whom, and what it cannot do to us."""

import asyncio
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from pilothouse.auth.tokens import is_keystone_token, new_session, new_token
from pilothouse.errors import Busy, NotAuthenticated, PilothouseError, ProviderUnavailable
from pilothouse.keystone.client import Keystone
from pilothouse.keystone.documents import provider_of
from pilothouse.keystone.validated import Validated
from pilothouse.settings import KeystoneSettings
from tests.support.oidc_peer import OidcPeer, look_up, run_peer
from tests.unit.keystone.test_documents import document

LOG_IN, VALIDATE = "/v3/auth/tokens", "/v3/auth/tokens?nocatalog"


class Clock:
    """A clock that a test moves."""

    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def peer(tmp_path: Path) -> AsyncIterator[OidcPeer]:
    """Yield a server that lets our service user in, and calls every token valid until 2100."""
    async with run_peer(tmp_path) as made:
        made.says(LOG_IN, {}, status=201, **{"x-subject-token": "ours"})
        made.says(VALIDATE, {"token": document(expires_at="2100-01-01T00:00:00Z")})
        yield made


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def password(tmp_path: Path) -> Path:
    file = tmp_path / "password"
    file.write_text("secret\n")
    return file


def validated(peer: OidcPeer, password: Path, clock: Clock, **fields: Any) -> Validated:
    wanted = {"allow_loopback": True, "answer_seconds": 2.0, "url": peer.issuer, "password_file": password, **fields}
    settings = KeystoneSettings(**wanted)
    return Validated(Keystone(settings, look_up, clock=clock), settings, provider_of(settings), clock=clock)


def asked(peer: OidcPeer) -> int:
    return peer.asked.count(VALIDATE)


async def ends(*asking: Any) -> list[type]:
    """Return the kinds of what came of all of these at once."""
    return [type(end) for end in await asyncio.gather(*asking, return_exceptions=True)]


async def test_however_many_ask_about_a_token_keystone_is_asked_once(peer: OidcPeer, password: Path, clock: Clock):
    tokens = validated(peer, password, clock, cache_seconds=30)
    found = await asyncio.gather(*(tokens.find("one", f"192.0.2.{number}") for number in range(50)))
    assert {one.identity.subject for one in found} == {"u1"}
    assert peer.asked == [LOG_IN, VALIDATE]
    clock.now += 29
    await tokens.find("one", "192.0.2.1")
    assert asked(peer) == 1
    clock.now += 1
    await tokens.find("one", "192.0.2.1")
    assert asked(peer) == 2
    peer.says(VALIDATE, {}, status=404)
    clock.now += 31
    for _ in range(2):
        with pytest.raises(NotAuthenticated, match="does not accept it"):
            await tokens.find("one", "192.0.2.1")
    assert asked(peer) == 4, "what is refused is not remembered"
    await tokens.close()


async def test_without_a_cache_each_request_asks(peer: OidcPeer, password: Path, clock: Clock):
    tokens = validated(peer, password, clock, cache_seconds=0)
    for _ in range(3):
        await tokens.find("one", "192.0.2.1")
    assert asked(peer) == 3
    await tokens.close()


async def test_a_token_is_not_remembered_beyond_its_own_end(peer: OidcPeer, password: Path, clock: Clock):
    tokens = validated(peer, password, clock)
    peer.says(VALIDATE, {"token": document()})  # by this machine's clock it has ended
    for _ in range(2):
        await tokens.find("one", "192.0.2.1")
    assert asked(peer) == 2
    await tokens.close()


async def test_an_address_whose_tokens_were_refused_is_not_asked_for_any_more(
    peer: OidcPeer, password: Path, clock: Clock
):
    tokens = validated(peer, password, clock, refused_per_second=0.5)
    await tokens.find("good", "192.0.2.1")
    good = peer.answers[VALIDATE]
    peer.says(VALIDATE, {}, status=404)
    kinds = await ends(*(tokens.find(f"bad-{number}", "192.0.2.1") for number in range(40)))
    refused = kinds.count(NotAuthenticated)
    assert (kinds.count(Busy), 10 <= refused <= 13) == (40 - refused, True), "ten at once, and those under way"
    assert asked(peer) == 1 + refused
    assert await ends(tokens.find("other", "192.0.2.1")) == [Busy]
    peer.answers[VALIDATE] = good
    clock.now += 1000
    peer.asked.clear()
    clock.now += 60
    assert await tokens.find("good", "192.0.2.1"), "what was accepted before is no stranger's"
    assert await tokens.find("other", "192.0.2.1"), "after a rest"
    await tokens.close()


async def test_what_keystone_fails_at_counts_as_refused_for_strangers(peer: OidcPeer, password: Path, clock: Clock):
    tokens = validated(peer, password, clock, cache_seconds=0, refused_per_second=0.05)
    await tokens.find("good", "192.0.2.1")
    good = peer.answers[VALIDATE]
    peer.says(VALIDATE, {}, status=500)
    assert await ends(tokens.find("good", "192.0.2.1")) == [ProviderUnavailable]
    assert await ends(tokens.find("bad", "192.0.2.1")) == [ProviderUnavailable]
    assert await ends(tokens.find("worse", "192.0.2.1")) == [Busy]
    peer.answers[VALIDATE] = good
    assert await tokens.find("good", "192.0.2.1"), "a failure takes nothing from who was accepted before"
    await tokens.close()


async def test_a_known_token_is_asked_about_while_its_address_is_refused(peer: OidcPeer, password: Path, clock: Clock):
    tokens = validated(peer, password, clock, cache_seconds=0, refused_per_second=0.05)
    await tokens.find("good", "192.0.2.1")
    good = peer.answers[VALIDATE]
    peer.says(VALIDATE, {}, status=404)
    assert await ends(tokens.find("bad", "192.0.2.1")) == [NotAuthenticated]
    assert await ends(tokens.find("worse", "192.0.2.1")) == [Busy]
    assert await ends(tokens.find("worse", "192.0.2.9")) == [NotAuthenticated], "another address"
    peer.answers[VALIDATE] = good
    assert await tokens.find("good", "192.0.2.1")
    await tokens.close()


async def test_strangers_do_not_hold_up_those_who_were_accepted(peer: OidcPeer, password: Path, clock: Clock):
    tokens = validated(peer, password, clock, cache_seconds=0, answer_seconds=30)
    await tokens.find("good", "192.0.2.1")
    peer.hangs.add(VALIDATE)
    peer.asked.clear()
    crowd = [asyncio.create_task(tokens.find(f"x{number}", f"198.51.100.{number % 9}")) for number in range(200)]
    for _ in range(100):
        await asyncio.sleep(0.01)
        if asked(peer) == 4:
            break
    await asyncio.sleep(0.1)
    assert asked(peer) == 4
    peer.hangs.clear()
    assert await asyncio.wait_for(tokens.find("good", "192.0.2.1"), 5)
    for task in crowd:
        task.cancel()
    await asyncio.gather(*crowd, return_exceptions=True)
    await tokens.close()


async def test_the_memory_of_tokens_is_bounded(peer: OidcPeer, password: Path, clock: Clock):
    tokens = validated(peer, password, clock, cached_tokens=3)
    for name in ("a", "b", "c", "a", "d", "a"):
        await tokens.find(name, "192.0.2.1")
    assert asked(peer) == 4
    await tokens.find("b", "192.0.2.1")
    assert asked(peer) == 5, "the one that was not used for longest is forgotten"
    await tokens.close()


@pytest.mark.parametrize(
    ("path", "said", "why"),
    [
        (VALIDATE, (403, {}), "does not let our service user validate tokens"),
        (VALIDATE, (401, {}), "refuses the token that it gave to our service user"),
        (VALIDATE, (500, {}), "answered 500"),
        (VALIDATE, (302, {}), "answered 302"),
        (VALIDATE, (200, {}), "without a token"),
        (VALIDATE, (200, b"<html>"), "not JSON"),
        (VALIDATE, (200, b"[]"), "JSON object"),
        (VALIDATE, (200, b"x" * 300_000), "the connection failed"),
        (LOG_IN, (401, {}), "refuses the name, password or project"),
        (LOG_IN, (201, {}), "answered 201"),
        (LOG_IN, (503, {}), "answered 503"),
    ],
)
async def test_what_keystone_cannot_tell_is_not_the_callers_fault(
    peer: OidcPeer, password: Path, path: str, said: tuple[int, Any], why: str
):
    tokens = validated(peer, password, Clock())
    peer.says(path, said[1], status=said[0], location=f"{peer.issuer}/elsewhere")
    with pytest.raises(ProviderUnavailable) as told:
        await tokens.find("one", "192.0.2.1")
    assert why in told.value.cause
    assert str(told.value) == "the identity provider keystone cannot be used now", "strangers are told no more"
    assert "/elsewhere" not in peer.asked
    await tokens.close()


async def test_a_keystone_that_hangs_costs_no_more_than_the_time_limit(peer: OidcPeer, password: Path, clock: Clock):
    tokens = validated(peer, password, clock, answer_seconds=0.2)
    peer.hangs.add(VALIDATE)
    begun = asyncio.get_running_loop().time()
    with pytest.raises(ProviderUnavailable) as told:
        await tokens.find("one", "192.0.2.1")
    assert "did not answer within" in told.value.cause
    assert asyncio.get_running_loop().time() - begun < 2
    await tokens.close()


async def test_a_wrong_password_is_not_tried_again_and_again(peer: OidcPeer, password: Path, clock: Clock):
    tokens = validated(peer, password, clock, refused_per_second=0)
    peer.says(LOG_IN, {}, status=401)
    assert set(await ends(*(tokens.find(f"x{number}", "192.0.2.1") for number in range(20)))) == {ProviderUnavailable}
    assert peer.asked == [LOG_IN]
    password.unlink()  # noqa: ASYNC240 - a test
    clock.now += 6
    with pytest.raises(ProviderUnavailable) as told:
        await tokens.find("one", "192.0.2.1")
    assert "PASSWORD_FILE=" in told.value.cause
    assert str(password) not in str(told.value)
    await tokens.close()


async def test_an_address_that_the_rules_refuse_is_not_connected_to(peer: OidcPeer, password: Path, clock: Clock):
    tokens = validated(peer, password, clock, allow_loopback=False)
    with pytest.raises(ProviderUnavailable) as told:
        await tokens.find("one", "192.0.2.1")
    assert "PILOTHOUSE_KEYSTONE__ALLOW_LOOPBACK" in told.value.cause
    assert peer.asked == []
    await tokens.close()


def test_only_what_a_keystone_issues_is_sent_to_it():
    fernet = "gAAAAAB" + secrets.token_urlsafe(150)
    jws = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJ1MSJ9.c2ln"
    of_an_issuer = "eyJ0eXAiOiJKV1QiLCJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJ4In0.c2ln"
    assert is_keystone_token(fernet)
    assert is_keystone_token(fernet + "==")
    assert is_keystone_token(jws)
    for other in (of_an_issuer, new_token(), new_session(), fernet[:90], fernet + "\n", "a.b.c", "a.IiI.c", ""):
        assert not is_keystone_token(other), other


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"url": "https://keystone.test"}, "PASSWORD_FILE is missing"),
        ({"url": "http://keystone.test", "password_file": "x"}, "must begin with https"),
        ({"url": "keystone.test", "password_file": "x"}, "is not an address"),
        ({"cache_seconds": 61}, "less than or equal to 60"),
    ],
)
def test_settings_that_cannot_work_are_refused(fields: dict[str, Any], why: str):
    with pytest.raises(ValueError, match=why):
        KeystoneSettings(**fields)
    assert issubclass(ProviderUnavailable, PilothouseError)


def test_the_address_is_the_same_with_and_without_the_version():
    for url in ("https://k.test:5000", "https://k.test:5000/", "https://k.test:5000/v3", "https://k.test:5000/v3/"):
        assert KeystoneSettings(url=url, password_file="x").url == "https://k.test:5000"
