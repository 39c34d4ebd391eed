"""100,000 signed requests, changed after they were signed: none is accepted. ``make mutations`` tries a million.

The seed is printed when a run fails; ``PILOTHOUSE_TEST_SEED`` makes the same run again.
"""

import os
import random
import secrets
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.auth.schemes import SCHEMES
from pilothouse.auth.signing import Signature, parse_authorization
from pilothouse.errors import NotAuthenticated
from tests.support.signed import SIGNERS, Keys, Mutator, Wire, is_accepted, meaning, scheme_of, sign_by_sdk

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
MUTATIONS = int(os.environ.get("PILOTHOUSE_TEST_MUTATIONS") or 100_000)
KEYS = (Keys("A1B2C3D4E5F6G7H8I9J0", "s" * 40), Keys("Z9Y8X7W6V5U4T3S2R1Q0", "t" * 40))
#: How many signed requests of each scheme the mutations start from: the SDK's own arithmetic for curves is slow.
SOURCES = {
    "SDK-HMAC-SHA256": 400,
    "SDK-HMAC-SM3": 80,
    "V11-HMAC-SHA256": 60,
    "SDK-HMAC-SHA256/sdk_request": 60,
    "SDK-ECDSA-P256-SHA256": 24,
    "SDK-SM2-SM3": 12,
}


def secret_key(access_key: str) -> str | None:
    return {keys.ak: keys.sk for keys in KEYS}.get(access_key)


def source(rng: random.Random, scheme: str) -> Wire:
    """Return a request as the vendor's clients send them."""
    name = rng.choice(["demo", "a b", "größe", "100%", "a+b", "x" * 53])
    namespace = rng.choice(["default", "kube-system", "中文"])
    cluster = f"/cce/cam/v3/clusters/{rng.getrandbits(128):032x}"
    path = rng.choice(
        [
            "/v2/charts",
            "/v2/charts/e99a7e86-afdd-11eb-aca3-0255ac100b0e/archive",
            f"{cluster}/releases",
            f"{cluster}/namespace/{namespace}/releases/{name}".replace(" ", "%20").replace("100%", "100%25"),
        ]
    )
    headers = [("User-Agent", "huaweicloud-usdk-python/3.0"), ("X-Project-Id", f"{rng.getrandbits(128):032x}")]
    body = rng.choice([b"", b"", b"{}", b'{"chart_id":"c","values":{"n":1}}\n', rng.randbytes(40)])
    content_type = rng.choice(["application/json", "multipart/form-data; boundary=abc", None])
    if content_type is not None:
        headers.append(("Content-Type", content_type))
    pairs = [("show_resources", "true"), ("namespace", "a&b"), ("chart_id", ""), ("n", "é")]
    return sign_by_sdk(
        rng.choice(KEYS),
        scheme,
        method=rng.choice(["GET", "POST", "PUT", "DELETE"]),
        path="".join(part if part.isascii() else "".join(f"%{b:02X}" for b in part.encode()) for part in path),
        query=rng.sample(pairs, rng.randrange(4)),
        headers=headers,
        body=body,
        at=NOW + timedelta(seconds=rng.randrange(-800, 800)),
    )


def test_no_changed_request_is_accepted():
    seed = int(os.environ.get("PILOTHOUSE_TEST_SEED", secrets.randbelow(10**9)))
    rng = random.Random(seed)  # noqa: S311 - it must be replayable
    sources = [source(rng, scheme) for scheme, count in SOURCES.items() for _ in range(count)]
    assert set(SOURCES) == set(SIGNERS)
    assert all(is_accepted(wire, secret_key, now=NOW) for wire in sources)
    promised = {wire.authorization: (wire, meaning(wire, wire)) for wire in sources}
    mutator = Mutator(rng, sources)
    counted: Counter[str] = Counter()
    while counted.total() < MUTATIONS:
        signed = rng.choice(sources)
        changed = mutator.mutate(signed)
        # The signature that it carries decides what it may say: its own, or that of another request.
        wire, promise = promised.get(changed.authorization) or promised[signed.authorization]
        if meaning(changed, wire) == promise:
            continue
        assert not is_accepted(changed, secret_key, now=NOW), (
            f"PILOTHOUSE_TEST_SEED={seed}, after {counted.total()} mutations:\n{signed}\nwas accepted as\n{changed}"
        )
        counted[scheme_of(signed)] += 1
    assert set(counted) == set(SOURCES)
    print(f"{counted.total()} mutations, 0 accepted: {dict(counted)}")  # noqa: T201 - a figure of the run


def with_unsigned_header(wire: Wire) -> Wire:
    return replace(wire, headers=((b"accept-encoding", b"gzip"), *wire.headers, (b"x-forwarded-for", b"10.0.0.1")))


@pytest.mark.parametrize(
    "change",
    [
        with_unsigned_header,
        lambda wire: replace(wire, headers=wire.headers[::-1]),
        lambda wire: replace(wire, headers=tuple((name, b"  " + value + b"\t") for name, value in wire.headers)),
        lambda wire: replace(wire, query=b"&".join(wire.query.split(b"&")[::-1])),
        lambda wire: replace(wire, query=wire.query.replace(b"%20", b"+")),
        lambda wire: replace(wire, path=wire.path + b"/"),
        lambda wire: replace(wire, path=wire.path.replace(b"charts", b"%63harts")),
        lambda wire: replace(wire, authorization=wire.authorization.replace(", ", ",\t ")),
    ],
    ids=[
        "headers that are not signed",
        "order of headers",
        "white space around values",
        "order of query parameters",
        "another spelling of a space",
        "a slash at the end of the path",
        "another spelling of a letter of the path",
        "white space in Authorization",
    ],
)
@pytest.mark.parametrize("scheme", SIGNERS)
def test_what_the_scheme_leaves_open_is_left_open(scheme: str, change: Callable[[Wire], Wire]):
    """So that clients, proxies and golangsdk may do it; ``meaning`` leaves the same out of the count above."""
    signed = sign_by_sdk(KEYS[0], scheme, query=[("a", "x y"), ("b", "2")], headers=[("X-Note", "n")], at=NOW)

    changed = change(signed)

    assert changed != signed
    assert meaning(changed, signed) == meaning(signed, signed)
    assert is_accepted(changed, secret_key, now=NOW)


token = st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=1, max_size=20)
name = st.from_regex(r"[a-z0-9!#$%&'*+.^_`|~-]{1,12}", fullmatch=True)
lists = st.lists(name, min_size=1, max_size=6, unique=True).map(tuple)
proofs = st.text(alphabet="0123456789abcdef", min_size=1, max_size=144)
unscoped = st.sampled_from(sorted(SIGNERS)).filter(lambda scheme: not SCHEMES[scheme].scoped)
scopes = {
    "V11-HMAC-SHA256": r"[0-9]{8}/[a-z0-9-]{1,12}/[a-z]{1,8}",
    "SDK-HMAC-SHA256/sdk_request": r"[0-9]{8}/[a-z0-9-]{0,12}/[a-z]{0,8}/sdk_request",
}
claims = st.builds(Signature, unscoped, token, lists, proofs) | st.one_of(
    [
        st.builds(Signature, st.just(scheme), token, lists, proofs, st.from_regex(scope, fullmatch=True))
        for scheme, scope in scopes.items()
    ]
)


def written(claim: Signature) -> str:
    holder = f"Credential={claim.access_key}/{claim.scope}" if claim.scope else f"Access={claim.access_key}"
    algorithm, names = SCHEMES[claim.scheme].algorithm, ";".join(claim.signed_headers)
    return f"{algorithm} {holder}, SignedHeaders={names}, Signature={claim.signature}"


@given(claims)
def test_an_authorization_header_is_read_as_it_was_written(claim: Signature):
    assert parse_authorization(written(claim)) == claim


@given(claims, st.data())
def test_nothing_in_an_authorization_header_is_passed_over(claim: Signature, data: st.DataObject):
    """Whatever one changed character leads to is either refused or read: no part may hold what nobody looks at."""
    text = written(claim)
    where = data.draw(st.integers(0, len(text)))
    changed = text[:where] + data.draw(st.characters(max_codepoint=255)) + text[where + data.draw(st.integers(0, 1)) :]

    try:
        read = parse_authorization(changed)
    except NotAuthenticated:
        return

    assert "".join(written(read).split()) == "".join(changed.split())
