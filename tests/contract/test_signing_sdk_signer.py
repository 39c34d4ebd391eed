"""The vendor's own signer as the judge: whatever it signs is accepted, and nothing that differs from it."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import DerivationAKSKSigner, P256SHA256Signer, Signer, SM2SM3Signer, SM3Signer
from huaweicloudsdkcore.signer.utils import P256SigningKey, SM2SigningKey
from hypothesis import given, settings
from hypothesis import strategies as st

from pilothouse.auth import sm2
from pilothouse.auth.schemes import SCHEMES, Key
from pilothouse.auth.signing import Signature, SignedRequest, body_digest, parse_authorization, sign, verify
from pilothouse.errors import NotAuthenticated

SIGNED_AT = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
DATE = "20260301T120000Z"


@dataclass(frozen=True)
class Keys:
    ak: str = "A1B2C3D4E5F6G7H8I9J0"
    sk: str = "s" * 40


texts = st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=12)
paths = st.lists(texts.filter(bool), max_size=6).map(
    lambda parts: "/" + "/".join(quote(part, safe="") for part in parts)
)
queries = st.lists(st.tuples(texts.filter(bool), texts), max_size=6)
names = st.from_regex(r"X-[A-Za-z0-9-]{1,10}", fullmatch=True).filter(
    lambda name: name.lower() not in {"x-sdk-date", "x-sdk-content-sha256", "x-sdk-content-sm3"}
)
extra_headers = st.lists(st.tuples(names, texts), max_size=4, unique_by=lambda pair: pair[0].lower())
content_types = st.sampled_from(
    [None, "application/json", "application/json;charset=utf8", "multipart/form-data; boundary=x"]
)
methods = st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"])


SIGNERS = {
    "SDK-HMAC-SHA256": Signer,
    "SDK-HMAC-SM3": SM3Signer,
    "SDK-ECDSA-P256-SHA256": P256SHA256Signer,
    "SDK-SM2-SM3": SM2SM3Signer,
    "V11-HMAC-SHA256": DerivationAKSKSigner,
}
schemes = st.sampled_from(sorted(SIGNERS))


def sign_by_sdk(request: SdkRequest, scheme: str, keys: Keys) -> None:
    """Add the headers of the signature."""
    scope = ("cce", "cn-north-4") if SCHEMES[scheme].scoped else ()
    SIGNERS[scheme](keys).sign(request, *scope)


@st.composite
def sdk_requests(draw: st.DrawFn, schemes: st.SearchStrategy[str] = schemes) -> tuple[SignedRequest, Signature]:
    """Return a request as the SDK puts it on the wire, and the claim in its Authorization header."""
    scheme = draw(schemes)
    headers = dict(draw(extra_headers)) | {"X-Sdk-Date": DATE, "User_Agent": "not signed, because of its underscore"}
    content_type = draw(content_types)
    if content_type is not None:
        headers["Content-Type"] = content_type
    body = draw(st.binary(max_size=40))
    request = SdkRequest(
        method=draw(methods),
        schema="http",
        host="127.0.0.1:8440",
        resource_path=draw(paths),
        query_params=draw(queries),
        header_params=headers,
        body=body,
    )
    sign_by_sdk(request, scheme, Keys())
    raw_path, _, query = request.uri.encode("ascii").partition(b"?")
    wire = [(name.lower().encode(), value.encode("latin-1")) for name, value in request.header_params.items()]
    return (
        SignedRequest(request.method, raw_path, query, wire, body_digest(body, SCHEMES[scheme]), not body),
        parse_authorization(request.header_params["Authorization"]),
    )


def accept(request: SignedRequest, signature: Signature) -> None:
    verify(request, signature, secret_key=Keys().sk, now=SIGNED_AT, skew_seconds=900)


@given(sdk_requests())
def test_what_the_sdk_signs_is_accepted(made):
    accept(*made)


access_keys = st.text(alphabet="ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", min_size=20, max_size=20)


@pytest.mark.parametrize("scheme", SIGNERS)
@settings(max_examples=20, deadline=None)  # the SDK's own arithmetic takes tens of milliseconds
@given(access_key=access_keys, secret_key=st.text(alphabet="abcXYZ019", min_size=40, max_size=40))
def test_any_key_pair_is_accepted(scheme, access_key, secret_key):
    made = SdkRequest(
        method="GET", host="h", resource_path="/v2/charts", query_params=[], header_params={"X-Sdk-Date": DATE}
    )
    sign_by_sdk(made, scheme, Keys(access_key, secret_key))
    wire = [(name.lower().encode(), value.encode()) for name, value in made.header_params.items()]
    digest = SCHEMES[scheme].empty_digest
    request = SignedRequest("GET", b"/v2/charts", b"", wire, digest, body_empty=True)
    signature = parse_authorization(made.header_params["Authorization"])

    verify(request, signature, secret_key=secret_key, now=SIGNED_AT, skew_seconds=900)
    with pytest.raises(NotAuthenticated):
        verify(request, signature, secret_key=secret_key + "x", now=SIGNED_AT, skew_seconds=900)


@settings(max_examples=15, deadline=None)
@given(st.data())
def test_a_key_whose_public_point_has_a_leading_zero_byte(data):
    """The SDK drops that byte when it hashes the point; about one key in 128 is of this kind."""
    scalar = data.draw(st.sampled_from(SHORT_SCALARS))
    message = data.draw(st.binary(max_size=20))

    assert sm2.is_signature(SM2SigningKey(scalar).sign(message), message, private_key=scalar)


SHORT_SCALARS = [n for n in range(2, 2000) if any(part >> 248 == 0 for part in sm2._multiply(n) or (0, 0))]


@pytest.mark.parametrize(
    ("scheme", "signing_key"), [("SDK-ECDSA-P256-SHA256", P256SigningKey), ("SDK-SM2-SM3", SM2SigningKey)]
)
@settings(max_examples=8, deadline=None)
@given(key=access_keys.map(lambda made: Key(made, "s" * 40)), bit=st.none() | st.integers(0, 511))
def test_the_sdk_and_we_agree_about_altered_signatures(scheme, signing_key, key, bit):
    """Both judge one signature, as it was made and with one bit of its two numbers changed."""
    judge = signing_key(SIGNERS[scheme](Keys(key.access_key, key.secret_key))._derive_key())
    r, s = decode_dss_signature(judge.sign(b"text"))
    number = (r << 256 | s) ^ (0 if bit is None else 1 << bit)
    altered = encode_dss_signature(number >> 256, number & (1 << 256) - 1)

    theirs = judge.verify(altered, b"text")

    assert SCHEMES[scheme].matches(key, b"text", altered.hex()) == theirs == (bit is None)


@given(
    made=sdk_requests(),
    what=st.sampled_from(["method", "path", "query", "body", "date", "header", "signature"]),
    data=st.data(),
)
def test_what_was_changed_afterwards_is_refused(made, what, data):
    request, signature = made
    match what:
        case "method":
            request = replace(request, method="OPTIONS")
        case "path":
            request = replace(request, raw_path=request.raw_path + b"x")
        case "query":
            request = replace(request, query_string=request.query_string + b"&one-more=1")
        case "body":
            scheme = SCHEMES[signature.scheme]
            unsigned = (scheme.content_header, b"UNSIGNED-PAYLOAD") in request.headers
            if unsigned and not request.body_empty:
                return
            request = replace(request, body_digest=body_digest(b"changed", scheme), body_empty=False)
        case "date":
            others = [header for header in request.headers if header[0] != b"x-sdk-date"]
            request = replace(request, headers=[*others, (b"x-sdk-date", b"20260301T120001Z")])
        case "header":
            name = data.draw(st.sampled_from(signature.signed_headers)).encode()
            changed = [(key, value + b"x" if key == name else value) for key, value in request.headers]
            request = replace(request, headers=changed)
        case _:
            index = data.draw(st.integers(0, len(signature.signature) - 1))
            wrong = data.draw(st.sampled_from("0123456789abcdef").filter(lambda c: c != signature.signature[index]))
            proof = signature.signature[:index] + wrong + signature.signature[index + 1 :]
            signature = replace(signature, signature=proof)

    with pytest.raises(NotAuthenticated):
        accept(request, signature)


@given(sdk_requests(st.just("SDK-HMAC-SHA256")))
def test_our_signer_agrees_with_the_sdk(made):
    request, signature = made
    names = {name.encode() for name in signature.signed_headers} - {b"x-sdk-date"}
    bare = replace(request, headers=[header for header in request.headers if header[0] in names])

    ours = sign(bare, access_key=Keys().ak, secret_key=Keys().sk, now=SIGNED_AT)

    assert parse_authorization(ours["Authorization"]) == signature


def test_booleans_and_repeated_values_of_a_query():
    request = SdkRequest(
        method="GET",
        host="h",
        resource_path="/v2/charts",
        query_params=[("show", True), ("id", ["b", "a"])],
        header_params={"X-Sdk-Date": DATE},
        body=None,
    )
    Signer(Keys()).sign(request)
    raw_path, _, query = request.uri.encode().partition(b"?")
    wire = [(name.lower().encode(), value.encode()) for name, value in request.header_params.items()]

    accept(
        SignedRequest("GET", raw_path, query, wire, body_digest(b""), body_empty=True),
        parse_authorization(request.header_params["Authorization"]),
    )
