"""Request signatures: the vendor's published example, the rules of the scheme, and hostile input."""

import hashlib
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.auth.schemes import HMAC_SHA256, SCHEMES, Key, hmac_sha256
from pilothouse.auth.signing import (
    Signature,
    SignedRequest,
    body_digest,
    canonical_request,
    check_headers,
    parse_authorization,
    sign,
    verify,
)
from pilothouse.errors import NotAuthenticated

ACCESS_KEY = "QTWAOYTTINDUT2QVKYUC"
SECRET_KEY = "MFyfvK41ba2giqM7Uio6PznpdUKGpownRZlmVmHc"
SIGNED_AT = datetime(2019, 11, 15, 3, 36, 55, tzinfo=UTC)
PUBLISHED_SIGNATURE = "7be6668032f70418fcc22abc52071e57aff61b84a1d2381bb430d6870f4f6ebe"
EMPTY = HMAC_SHA256.empty_digest


FORM = (b"content-type", b"multipart/form-data; boundary=x")


def request_of(
    *,
    method: str = "GET",
    raw_path: bytes = b"/v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs",
    query_string: bytes = b"limit=2&marker=13551d6b-755d-4757-b956-536f674975c0",
    headers: Sequence[tuple[bytes, bytes]] = (
        (b"content-type", b"application/json"),
        (b"host", b"service.region.example.com"),
        (b"x-sdk-date", b"20191115T033655Z"),
    ),
    body: bytes = b"",
) -> SignedRequest:
    return SignedRequest(method, raw_path, query_string, headers, body_digest(body), not body)


def claim(
    signature: str = PUBLISHED_SIGNATURE, *, signed: tuple[str, ...] = ("content-type", "host", "x-sdk-date")
) -> Signature:
    return Signature("SDK-HMAC-SHA256", ACCESS_KEY, signed, signature)


def accept(request: SignedRequest, signature: Signature, *, now: datetime = SIGNED_AT, skew_seconds: int = 900) -> None:
    verify(request, signature, secret_key=SECRET_KEY, now=now, skew_seconds=skew_seconds)


def signed(request: SignedRequest) -> tuple[SignedRequest, Signature]:
    """Return the request with the headers that our own signer adds, and its claim."""
    bare = replace(request, headers=[(name, value) for name, value in request.headers if name != b"x-sdk-date"])
    added = sign(bare, access_key=ACCESS_KEY, secret_key=SECRET_KEY, now=SIGNED_AT)
    headers = [*bare.headers, (b"x-sdk-date", added["X-Sdk-Date"].encode())]
    return replace(bare, headers=headers), parse_authorization(added["Authorization"])


class TestVendorExample:
    def test_canonical_request_has_the_published_hash(self):
        canonical = canonical_request(request_of(), ("content-type", "host", "x-sdk-date"), EMPTY)

        expected = "b25362e603ee30f4f25e7858e8a7160fd36e803bb2dfe206278659d71a9bcd7a"
        assert hashlib.sha256(canonical).hexdigest() == expected

    def test_published_signature_is_accepted(self):
        accept(request_of(), claim())

    def test_signature_over_a_body_is_accepted(self):
        accept(request_of(body=b'{"a":1}'), claim("49ac62128031ef89c8de54e743b3bc7fc5d8a8febe7b4dc2c462992c26132663"))

    def test_our_signer_makes_the_published_signature(self):
        _, signature = signed(request_of())

        assert signature == claim()


class TestCanonicalForm:
    @pytest.mark.parametrize(
        ("raw", "line"),
        [
            (b"", b"/"),
            (b"/", b"/"),
            (b"/v2/charts", b"/v2/charts/"),
            (b"/v2/charts/", b"/v2/charts/"),
            (b"/a%20b", b"/a%20b/"),
            (b"/a+b", b"/a%2Bb/"),
            (b"/a%2fb", b"/a/b/"),
            (b"/a%252Fb", b"/a%252Fb/"),
            (b"/%E4%b8%ad", b"/%E4%B8%AD/"),
            (b"/a~b!c", b"/a~b%21c/"),
            (b"/50%", b"/50%25/"),
            (b"/%ff", b"/%FF/"),
            (b"//a//", b"//a//"),
        ],
    )
    def test_path(self, raw, line):
        assert canonical_request(request_of(raw_path=raw), (), EMPTY).split(b"\n")[1] == line

    @pytest.mark.parametrize(
        ("raw", "line"),
        [
            (b"", b""),
            (b"b=2&a=1", b"a=1&b=2"),
            (b"a=2&a=10&a=1", b"a=1&a=10&a=2"),
            (b"a", b"a="),
            (b"a&&b=", b"a=&b="),
            (b"a=b=c", b"a=b%3Dc"),
            (b"a=x+y", b"a=x%20y"),
            (b"a=x%2By", b"a=x%2By"),
            (b"k%5B=1&kA=2", b"kA=2&k%5B=1"),
            (b"a=%e4%b8%ad", b"a=%E4%B8%AD"),
            (b"a=%FF", b"a=%FF"),
            (b"a=?/", b"a=%3F%2F"),
        ],
    )
    def test_query(self, raw, line):
        assert canonical_request(request_of(query_string=raw), (), EMPTY).split(b"\n")[2] == line

    def test_repeated_header_gives_one_line_per_value_sorted(self):
        headers = [(b"X-A", b" two "), (b"x-a", b"one"), (b"x-sdk-date", b"20191115T033655Z")]

        lines = canonical_request(request_of(headers=headers), ("x-a", "x-sdk-date"), EMPTY).split(b"\n")

        assert lines[3:] == [
            b"x-a:one",
            b"x-a:two",
            b"x-sdk-date:20191115T033655Z",
            b"",
            b"x-a;x-sdk-date",
            EMPTY.encode(),
        ]

    def test_header_values_are_signed_as_utf8(self):
        request, signature = signed(request_of(headers=[(b"x-note", "Größe 中".encode())]))

        accept(request, signature)

    def test_paths_and_queries_that_differ_only_in_invalid_utf8_differ(self):
        request, signature = signed(request_of(raw_path=b"/%FF", query_string=b"a=%FF"))

        accept(request, signature)
        for changed in (replace(request, raw_path=b"/%FE"), replace(request, query_string=b"a=%FE")):
            with pytest.raises(NotAuthenticated):
                accept(changed, signature)


class TestDate:
    @pytest.mark.parametrize("seconds", [-900, 0, 900])
    def test_within_the_allowed_skew(self, seconds):
        accept(request_of(), claim(), now=SIGNED_AT + timedelta(seconds=seconds))

    @pytest.mark.parametrize("seconds", [-901, 901, 10**9])
    def test_beyond_it(self, seconds):
        with pytest.raises(NotAuthenticated, match="set the client's clock"):
            accept(request_of(), claim(), now=SIGNED_AT + timedelta(seconds=seconds))

    @pytest.mark.parametrize(
        ("seconds_ago", "fresh"), [(-120, True), (-121, False), (-900, False), (121, True), (900, True), (901, False)]
    )
    def test_a_date_in_the_future_may_be_off_by_less(self, seconds_ago, fresh):
        expected = nullcontext() if fresh else pytest.raises(NotAuthenticated, match="set the client's clock")
        now = SIGNED_AT + timedelta(seconds=seconds_ago)

        with expected:
            check_headers(request_of().headers, claim(), now=now, skew_seconds=900, ahead_seconds=120)

    @pytest.mark.parametrize(
        "value",
        [
            b"",
            b"20191115T033655",
            b"20191115T033655z",
            b"2019-11-15T03:36:55Z",
            b"20191315T033655Z",
            b"20190229T033655Z",
            b"00000101T000000Z",
            b"20191115T033660Z",
            b"20191115T033655Z ,",
            "\uff12\uff10\uff11\uff1920191115T033655Z".encode(),
            b"\xff" * 16,
            b"Fri, 15 Nov 2019 03:36:55 GMT",
        ],
    )
    def test_anything_else_is_refused(self, value):
        request = request_of(headers=[(b"x-sdk-date", value)])

        with pytest.raises(NotAuthenticated, match="X-Sdk-Date"):
            check_headers(request.headers, claim(signed=("x-sdk-date",)), now=SIGNED_AT, skew_seconds=900)

    def test_it_must_be_signed(self):
        with pytest.raises(NotAuthenticated, match="must contain x-sdk-date"):
            accept(request_of(), claim(signed=("host",)))

    def test_it_must_be_single(self):
        headers = [(b"x-sdk-date", b"20191115T033655Z")] * 2

        with pytest.raises(NotAuthenticated, match="2 times"):
            accept(request_of(headers=headers), claim(signed=("x-sdk-date",)))

    def test_check_headers_needs_no_secret_and_passes_a_fresh_request(self):
        check_headers(request_of().headers, claim("00"), now=SIGNED_AT, skew_seconds=900)


def test_a_missing_signed_header_is_named():
    with pytest.raises(NotAuthenticated, match="x-project-id is missing"):
        accept(request_of(), claim(signed=("x-project-id", "x-sdk-date")))


class TestPayload:
    CONTENT = b"x-sdk-content-sha256"

    def signed_with(self, content: bytes, body: bytes) -> tuple[SignedRequest, Signature]:
        return signed(request_of(method="POST", headers=[(self.CONTENT, content), FORM], body=body))

    def with_body(self, request: SignedRequest, body: bytes) -> SignedRequest:
        return replace(request, body_digest=body_digest(body), body_empty=not body)

    def test_unsigned_payload_leaves_the_body_open(self):
        request, signature = self.signed_with(b"UNSIGNED-PAYLOAD", b"multipart")

        accept(request, signature)
        accept(self.with_body(request, b"something else"), signature)

    @pytest.mark.parametrize("content_type", [b"application/json", b"text/plain", b"", b"x; multipart/form-data"])
    def test_only_of_a_form(self, content_type: bytes):
        request, signature = self.signed_with(b"UNSIGNED-PAYLOAD", b"{}")
        headers = [*((name, value) for name, value in request.headers if name != b"content-type")]
        request, signature = signed(replace(request, headers=[*headers, (b"content-type", content_type)]))

        with pytest.raises(NotAuthenticated, match="for multipart/form-data only"):
            accept(request, signature)
        accept(replace(request, body_digest=body_digest(b""), body_empty=True), signature)

    def test_a_digest_is_checked_against_the_body(self):
        request, signature = self.signed_with(body_digest(b"one").encode(), b"one")

        accept(request, signature)
        for other in (b"two", b""):
            with pytest.raises(NotAuthenticated, match="nor the hex digest"):
                accept(self.with_body(request, other), signature)

    def test_the_digest_is_copied_as_it_was_written(self):
        request, signature = self.signed_with(body_digest(b"one").upper().encode(), b"one")

        accept(request, signature)

    @pytest.mark.parametrize("content", [b"", b"unsigned-payload", b"\xff", b"STREAMING-UNSIGNED-PAYLOAD-TRAILER"])
    def test_another_content_header_is_refused(self, content):
        request = request_of(headers=[(self.CONTENT, content), (b"x-sdk-date", b"20191115T033655Z")], body=b"{}")

        with pytest.raises(NotAuthenticated, match="x-sdk-content-sha256"):
            accept(request, claim(signed=("x-sdk-date",)))

    def test_the_content_header_must_be_single(self):
        headers = [(self.CONTENT, b"UNSIGNED-PAYLOAD")] * 2 + [(b"x-sdk-date", b"20191115T033655Z")]

        with pytest.raises(NotAuthenticated, match="2 times"):
            accept(request_of(headers=headers), claim(signed=("x-sdk-date",)))

    @pytest.mark.parametrize("last_line", [EMPTY, "UNSIGNED-PAYLOAD"], ids=["vendor SDKs", "golangsdk"])
    def test_an_empty_body_with_unsigned_payload_is_accepted_either_way(self, last_line):
        headers = [(self.CONTENT, b"UNSIGNED-PAYLOAD"), (b"x-sdk-date", b"20191115T033655Z")]
        request = request_of(headers=headers)
        names = ("x-sdk-content-sha256", "x-sdk-date")
        digest = hashlib.sha256(canonical_request(request, names, last_line)).hexdigest()
        text = f"SDK-HMAC-SHA256\n20191115T033655Z\n{digest}".encode()

        accept(request, claim(hmac_sha256(Key(ACCESS_KEY, SECRET_KEY), text), signed=names))

    def test_adding_a_content_header_does_not_free_the_body(self):
        request, signature = signed(request_of(body=b"one"))
        freed = replace(request, headers=[*request.headers, (self.CONTENT, b"UNSIGNED-PAYLOAD")])

        with pytest.raises(NotAuthenticated):
            accept(self.with_body(freed, b"two"), signature)


class TestMutations:
    """A request that passed is refused after any change of what was signed."""

    @pytest.mark.parametrize(
        "changed",
        [
            {"method": "DELETE"},
            {"raw_path": b"/v1/77b6a44cba5143ab91d13ab9a8ff44fe/vpcs"},
            {"raw_path": b"//v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs"},
            {"query_string": b"limit=3&marker=13551d6b-755d-4757-b956-536f674975c0"},
            {"query_string": b""},
            {"query_string": b"limit=2&limit=2&marker=13551d6b-755d-4757-b956-536f674975c0"},
            {"body_digest": body_digest(b"{}"), "body_empty": False},
        ],
    )
    def test_of_a_part(self, changed):
        with pytest.raises(NotAuthenticated, match="does not belong to this request"):
            accept(replace(request_of(), **changed), claim())

    @pytest.mark.parametrize("index", range(3))
    def test_of_a_signed_header(self, index):
        headers = list(request_of().headers)
        name, value = headers[index]
        for mutated in ([(name, value + b"x")], [], [(name, value), (name, value)]):
            with pytest.raises(NotAuthenticated):
                accept(request_of(headers=[*headers[:index], *mutated, *headers[index + 1 :]]), claim())

    @pytest.mark.parametrize("index", range(64))
    def test_of_a_signature_digit(self, index):
        digit = PUBLISHED_SIGNATURE[index]
        wrong = "0" if digit != "0" else "1"

        with pytest.raises(NotAuthenticated):
            accept(request_of(), claim(PUBLISHED_SIGNATURE[:index] + wrong + PUBLISHED_SIGNATURE[index + 1 :]))

    @pytest.mark.parametrize("signature", ["", "0", PUBLISHED_SIGNATURE[:-1], PUBLISHED_SIGNATURE + "0"])
    def test_of_its_length(self, signature):
        with pytest.raises(NotAuthenticated):
            accept(request_of(), claim(signature))

    def test_of_the_secret_key(self):
        with pytest.raises(NotAuthenticated):
            verify(request_of(), claim(), secret_key=SECRET_KEY + "x", now=SIGNED_AT, skew_seconds=900)

    def test_of_the_list_of_signed_headers(self):
        with pytest.raises(NotAuthenticated):
            accept(request_of(), claim(signed=("host", "content-type", "x-sdk-date")))

    def test_the_refusal_helps_without_the_secret(self):
        canonical = canonical_request(request_of(), ("content-type", "host", "x-sdk-date"), EMPTY)

        with pytest.raises(NotAuthenticated) as caught:
            accept(request_of(), claim("00"))

        assert hashlib.sha256(canonical).hexdigest() in str(caught.value)
        assert SECRET_KEY not in str(caught.value)
        assert PUBLISHED_SIGNATURE not in str(caught.value)


class TestAuthorizationHeader:
    GOOD = f"SDK-HMAC-SHA256 Access={ACCESS_KEY}, SignedHeaders=host;x-sdk-date, Signature={PUBLISHED_SIGNATURE}"

    def test_parts(self):
        expected = Signature("SDK-HMAC-SHA256", ACCESS_KEY, ("host", "x-sdk-date"), PUBLISHED_SIGNATURE)

        assert parse_authorization(self.GOOD) == expected
        assert parse_authorization(self.GOOD.replace(", ", ",")) == expected

    @pytest.mark.parametrize(
        "value",
        [
            "",
            "x",
            "Bearer abc",
            "SDK-HMAC-SHA256",
            GOOD + ",",
            GOOD + "\n",
            GOOD.upper(),
            GOOD.replace("Access=", "Credential="),
            GOOD.replace(ACCESS_KEY, ""),
            GOOD.replace(ACCESS_KEY, "A" * 200),
            GOOD.replace(ACCESS_KEY, "QTWAOYTTINDUT2QVKYUÇ"),
            GOOD.replace("host;x-sdk-date", ""),
            GOOD.replace("host;x-sdk-date", "host;x-sdk-date;"),
            GOOD.replace("host;x-sdk-date", "Host;X-Sdk-Date"),
            GOOD.replace("host;x-sdk-date", "host;x-sdk-date;host"),
            GOOD.replace("host;x-sdk-date", "host:;x-sdk-date"),
            GOOD.replace(PUBLISHED_SIGNATURE, ""),
            GOOD.replace(PUBLISHED_SIGNATURE, PUBLISHED_SIGNATURE.upper()),
            GOOD.replace(PUBLISHED_SIGNATURE, "a" * 600),
            GOOD.replace("SDK-HMAC-SHA256", "SDK-HMAC-MD5"),
        ],
    )
    def test_anything_else_is_refused(self, value):
        with pytest.raises(NotAuthenticated, match="verify aksk signature fail, "):
            parse_authorization(value)

    @given(
        st.one_of(
            st.text(),
            st.from_regex(r"SDK-HMAC-SHA256 Access=.*, ?SignedHeaders=.*, ?Signature=.*", fullmatch=True),
            st.lists(
                st.sampled_from(["SDK-HMAC-SHA256", " ", "Access=", ",", "SignedHeaders=", ";", "Signature=", "a"])
            ).map("".join),
        )
    )
    def test_fuzz_gives_a_signature_of_a_known_scheme_or_not_authenticated(self, value):
        try:
            signature = parse_authorization(value)
        except NotAuthenticated:
            return
        assert signature.scheme in SCHEMES

    @given(
        st.lists(st.tuples(st.sampled_from([b"x-sdk-date", b"host", b"x-sdk-content-sha256"]), st.binary())),
        st.binary(),
        st.binary(),
        st.text(alphabet="0123456789abcdef"),
    )
    def test_fuzz_of_a_whole_request_is_never_anything_but_refused(self, headers, raw_path, query, digits):
        with pytest.raises(NotAuthenticated):
            accept(
                request_of(headers=headers, raw_path=raw_path, query_string=query),
                claim(digits, signed=("host", "x-sdk-date")),
            )


def test_an_unknown_scheme_is_refused_even_past_the_parser():
    with pytest.raises(NotAuthenticated, match="not supported"):
        accept(request_of(), replace(claim(), scheme="SDK-HMAC-MD5"))


def test_what_our_signer_signs_verifies_whatever_the_case_of_names():
    request = request_of(
        method="post", headers=[(b"Host", b" h:1 "), (b"X-Sdk-Content-Sha256", b"UNSIGNED-PAYLOAD"), FORM], body=b"x"
    )

    request, signature = signed(request)

    assert signature.signed_headers == ("content-type", "host", "x-sdk-content-sha256", "x-sdk-date")
    accept(request, signature)
