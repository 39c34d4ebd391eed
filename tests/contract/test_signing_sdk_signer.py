"""The vendor's own signer as the judge: whatever it signs is accepted, and nothing that differs from it."""

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import Signer
from hypothesis import given
from hypothesis import strategies as st

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
    lambda name: name.lower() not in {"x-sdk-date", "x-sdk-content-sha256"}
)
extra_headers = st.lists(st.tuples(names, texts), max_size=4, unique_by=lambda pair: pair[0].lower())
content_types = st.sampled_from(
    [None, "application/json", "application/json;charset=utf8", "multipart/form-data; boundary=x"]
)
methods = st.sampled_from(["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD"])


@st.composite
def sdk_requests(draw: st.DrawFn) -> tuple[SignedRequest, Signature]:
    """A request as the SDK puts it on the wire, and the claim in its Authorization header."""
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
    Signer(Keys()).sign(request)
    raw_path, _, query = request.uri.encode("ascii").partition(b"?")
    wire = [(name.lower().encode(), value.encode("latin-1")) for name, value in request.header_params.items()]
    return (
        SignedRequest(request.method, raw_path, query, wire, body_digest(body), not body),
        parse_authorization(request.header_params["Authorization"]),
    )


def accept(request: SignedRequest, signature: Signature) -> None:
    verify(request, signature, secret_key=Keys().sk, now=SIGNED_AT, skew_seconds=900)


@given(sdk_requests())
def test_what_the_sdk_signs_is_accepted(made):
    accept(*made)


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
            unsigned = (b"x-sdk-content-sha256", b"UNSIGNED-PAYLOAD") in request.headers
            if unsigned and not request.body_empty:
                return
            request = replace(request, body_digest=body_digest(b"changed"), body_empty=False)
        case "date":
            others = [header for header in request.headers if header[0] != b"x-sdk-date"]
            request = replace(request, headers=[*others, (b"x-sdk-date", b"20260301T120001Z")])
        case "header":
            name = data.draw(st.sampled_from(signature.signed_headers)).encode()
            changed = [(key, value + b"x" if key == name else value) for key, value in request.headers]
            request = replace(request, headers=changed)
        case _:
            index = data.draw(st.integers(0, 63))
            wrong = data.draw(st.sampled_from("0123456789abcdef").filter(lambda c: c != signature.signature[index]))
            proof = signature.signature[:index] + wrong + signature.signature[index + 1 :]
            signature = replace(signature, signature=proof)

    with pytest.raises(NotAuthenticated):
        accept(request, signature)


@given(sdk_requests())
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
