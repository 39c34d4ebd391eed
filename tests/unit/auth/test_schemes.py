"""The schemes besides SDK-HMAC-SHA256: known answers, the curve against the standard, and their own rules."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.auth import sm2
from pilothouse.auth.schemes import (
    _P256_ORDER,
    DERIVED_HMAC_SHA256,
    ECDSA_P256_SHA256,
    HMAC_SM3,
    SCHEMES,
    SM2_SM3,
    STEPWISE_HMAC_SHA256,
    Key,
    Sm3,
    _hmac_sha256_bytes,
    _hmac_sm3,
    _private_scalar,
)
from pilothouse.auth.signing import (
    UNSIGNED_PAYLOAD,
    Signature,
    SignedRequest,
    body_digest,
    canonical_request,
    parse_authorization,
    verify,
)
from pilothouse.errors import NotAuthenticated

ACCESS_KEY, SECRET_KEY = "QTWAOYTTINDUT2QVKYUC", "MFyfvK41ba2giqM7Uio6PznpdUKGpownRZlmVmHc"
SIGNED_AT = datetime(2019, 11, 15, 3, 36, 55, tzinfo=UTC)
NAMES = ("content-type", "host", "x-sdk-date")
SCOPE = "20191115/cn-north-4/cce"
SM3_SIGNATURE = "b723738bcc1660480381b0f61d37fba9034e8daab080f659fa3d2439f23b3086"
DERIVED_SIGNATURE = "3b81c8b32b5127bf1c5afb9ea49f4c20e4d7001d94c129cd9ad647a977beca1d"

REQUEST = SignedRequest(
    method="GET",
    raw_path=b"/v1/77b6a44cba5143ab91d13ab9a8ff44fd/vpcs",
    query_string=b"limit=2&marker=13551d6b-755d-4757-b956-536f674975c0",
    headers=(
        (b"content-type", b"application/json"),
        (b"host", b"service.region.example.com"),
        (b"x-sdk-date", b"20191115T033655Z"),
    ),
    body_digest=HMAC_SM3.empty_digest,
    body_empty=True,
)


def accept(request: SignedRequest, signature: Signature) -> None:
    verify(request, signature, secret_key=SECRET_KEY, now=SIGNED_AT, skew_seconds=900)


class TestKnownAnswers:
    @pytest.mark.parametrize("scheme", SCHEMES.values(), ids=lambda scheme: scheme.name)
    def test_empty_digest(self, scheme):
        assert scheme.hexdigest(b"") == scheme.empty_digest

    def test_sm3_of_the_standards_example(self):
        assert sm2.sm3(b"abc").hex() == "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"

    def test_sm3_in_pieces(self):
        digest = Sm3()
        digest.update(b"a")
        digest.update(b"bc")

        assert digest.hexdigest() == sm2.sm3(b"abc").hex()

    def test_hmac_sm3(self):
        accept(REQUEST, Signature(HMAC_SM3.name, ACCESS_KEY, NAMES, SM3_SIGNATURE))

    def test_derived_hmac_sha256(self):
        request = replace(REQUEST, body_digest=DERIVED_HMAC_SHA256.empty_digest)

        accept(request, Signature(DERIVED_HMAC_SHA256.name, ACCESS_KEY, NAMES, DERIVED_SIGNATURE, SCOPE))

    def test_private_scalar_for_p256(self):
        scalar = _private_scalar(Key(ACCESS_KEY, SECRET_KEY), ECDSA_P256_SHA256.name, _hmac_sha256_bytes, _P256_ORDER)

        assert f"{scalar:x}" == "a8e6ee14265805ba3e2687ad9b348b17d6a5f6309c340b80fd3c8f2d7086e84c"

    def test_private_scalar_for_sm2(self):
        scalar = _private_scalar(Key(ACCESS_KEY, SECRET_KEY), SM2_SM3.name, _hmac_sm3, sm2.ORDER)

        assert f"{scalar:x}" == "346fe8c55b1720b1570fccc1717d0fab2287a4096325b81f890bfcc2bb7700e9"

    def test_a_candidate_above_the_order_is_passed_over(self):
        digests = iter([b"\xff" * 32, (sm2.ORDER - 1).to_bytes(32, "big"), (sm2.ORDER - 2).to_bytes(32, "big")])
        counters = []

        def mac(_key: bytes, text: bytes) -> bytes:
            counters.append(text[-5])
            return next(digests)

        assert _private_scalar(Key("A", "s"), "X", mac, sm2.ORDER) == sm2.ORDER - 1
        assert counters == [0, 1, 2]


class TestSm2:
    """GB/T 32918.5-2017, annex A.2."""

    PRIVATE = 0x3945208F7B2144B13F36E38AC6D39F95889393692860B51A42FB81EF4DF7C5B8
    PUBLIC = (
        0x09F9DF311E5421A150DD7D161E4BC5C672179FAD1833FC076BB08FF356F35020,
        0xCCEA490CE26775A52DC6EA718CC1AA600AED05FBF35E084A6632F6072DA9AD13,
    )
    R = 0xF5A03B0648D2C4630EEAC513E1BB81A15944DA3827D5B74143AC7EACEEE720B3
    S = 0xB1B6AA29DF212FD8763182BC0D421CA1BB9038FD1F7F42D4840B69C485BBC1AA

    def test_public_key(self):
        assert sm2._multiply(self.PRIVATE) == self.PUBLIC

    def test_signature(self):
        signature = encode_dss_signature(self.R, self.S)

        assert sm2.is_signature(signature, b"message digest", private_key=self.PRIVATE)
        assert not sm2.is_signature(signature, b"message digesT", private_key=self.PRIVATE)
        assert not sm2.is_signature(signature, b"message digest", private_key=self.PRIVATE + 1)

    @pytest.mark.parametrize(
        ("r", "s"),
        [(0, S), (R, 0), (R + sm2.ORDER, S), (R, S + sm2.ORDER), (R, sm2.ORDER - R), (S, R)],
    )
    def test_numbers_that_are_none(self, r, s):
        signature = encode_dss_signature(r, s)

        assert not sm2.is_signature(signature, b"message digest", private_key=self.PRIVATE)

    @pytest.mark.parametrize(
        "form", ["", "30", "3000", "00" * 64, "300602010102010100", "30060201ff020101", "3080020101020101"]
    )
    def test_what_is_no_der(self, form):
        assert not sm2.is_signature(bytes.fromhex(form), b"message digest", private_key=self.PRIVATE)

    def test_multiples_of_the_generator(self):
        generator = (sm2._GX, sm2._GY)
        total = generator
        assert sm2._multiply(0) is None
        for number in range(1, 40):
            assert sm2._multiply(number) == total
            total = sm2._add(total, generator)
        assert sm2._multiply(sm2.ORDER - 1) == (sm2._GX, sm2._P - sm2._GY)

    @given(st.integers(1, sm2.ORDER - 2), st.integers(1, sm2.ORDER - 2))
    def test_multiplying_is_additive(self, one, other):
        total = sm2._multiply((one + other) % sm2.ORDER)
        points = sm2._multiply(one), sm2._multiply(other)

        assert points[0] is not None
        assert points[1] is not None
        if points[0][0] != points[1][0]:
            assert sm2._add(points[0], points[1]) == total

    def test_a_key_whose_public_point_has_a_leading_zero_byte_is_served_in_both_paddings(self):
        scalar = next(n for n in range(1, 5000) if (sm2._multiply(n) or (0, 0))[1] >> 248 == 0)
        public = sm2._multiply(scalar)
        assert public is not None

        identities = list(sm2._identities(public))

        assert len(identities) == 2
        for identity in identities:
            signature = signed_with_sm2(identity, b"text", private_key=scalar)
            assert sm2.is_signature(signature, b"text", private_key=scalar)


def signed_with_sm2(identity: bytes, text: bytes, *, private_key: int, nonce: int = 12345) -> bytes:
    point = sm2._multiply(nonce)
    assert point is not None
    r = (int.from_bytes(sm2.sm3(identity + text), "big") + point[0]) % sm2.ORDER
    s = pow(1 + private_key, -1, sm2.ORDER) * (nonce - r * private_key) % sm2.ORDER
    return encode_dss_signature(r, s)


class TestDerivedScope:
    GOOD = (
        f"V11-HMAC-SHA256 Credential={ACCESS_KEY}/{SCOPE}, SignedHeaders={';'.join(NAMES)}, "
        f"Signature={DERIVED_SIGNATURE}"
    )

    def test_parts(self):
        expected = Signature("V11-HMAC-SHA256", ACCESS_KEY, NAMES, DERIVED_SIGNATURE, SCOPE)

        assert parse_authorization(self.GOOD) == expected

    @pytest.mark.parametrize(
        "value",
        [
            GOOD.replace("/cce", ""),
            GOOD.replace("/cce", "/"),
            GOOD.replace("/cce", "/cce/x"),
            GOOD.replace("20191115", "2019111"),
            GOOD.replace("20191115", "2019111a"),
            GOOD.replace(f"Credential={ACCESS_KEY}/{SCOPE}", f"Access={ACCESS_KEY}"),
            GOOD.replace("V11-HMAC-SHA256", "SDK-HMAC-SHA256"),
            GOOD.replace(ACCESS_KEY, ""),
        ],
    )
    def test_anything_else_is_refused(self, value):
        with pytest.raises(NotAuthenticated, match="verify aksk signature fail, "):
            parse_authorization(value)

    def test_its_day_must_be_that_of_the_date(self):
        request = replace(REQUEST, body_digest=DERIVED_HMAC_SHA256.empty_digest)
        signature = parse_authorization(self.GOOD.replace("20191115", "20191116"))

        with pytest.raises(NotAuthenticated, match="the day in Credential"):
            accept(request, signature)

    @pytest.mark.parametrize("scope", ["20191115/cn-north-1/cce", "20191115/cn-north-4/iam"])
    def test_region_and_service_are_signed(self, scope):
        request = replace(REQUEST, body_digest=DERIVED_HMAC_SHA256.empty_digest)

        with pytest.raises(NotAuthenticated, match="does not belong to this request"):
            accept(request, parse_authorization(self.GOOD.replace(SCOPE, scope)))


class TestOpenTelekomCloud:
    """Known answers of gophertelekomcloud 0.9.0, which derives its key from what follows ``Credential``."""

    SIGNED_AT = datetime(2026, 11, 29, 4, 38, 37, tzinfo=UTC)
    HEADERS = (
        (b"accept", b"application/json"),
        (b"host", b"127.0.0.1:8440"),
        (b"user-agent", b"golangsdk/2.0.0"),
        (b"x-sdk-date", b"20261129T043837Z"),
    )
    CATALOG = SignedRequest(
        "GET", b"/v3/auth/catalog", b"", HEADERS, STEPWISE_HMAC_SHA256.empty_digest, body_empty=True
    )
    LIST = replace(CATALOG, raw_path=b"/cce/cam/v3/clusters/c1/releases", query_string=b"namespace=a%20b&chart_id=x")
    CREATE = SignedRequest(
        "POST",
        b"/cce/cam/v3/clusters/c1/releases",
        b"",
        (*HEADERS, (b"content-type", b"application/json")),
        body_digest(b'{"name":"web"}'),
        body_empty=False,
    )
    CASES = (
        (CATALOG, "//", "01aff2afc2cf9c9ba56f5c6cb18526084e031658996dd339b32dd4ede3dca3e8"),
        (LIST, "/eu-de/cce", "948464c1a534d731a16a6bfafe3144820c71692cdb910a15c9c2a5d50a57f7f9"),
        (CREATE, "//", "4bc4bbc43ce45c1cdd5d3edea5c8a50b0e714a49be9cff21bb539fd8ceb2ce1a"),
    )

    def claim(self, request: SignedRequest, scope: str, proof: str) -> Signature:
        names = ";".join(sorted(name.decode() for name, _ in request.headers))
        return parse_authorization(
            f"SDK-HMAC-SHA256 Credential={ACCESS_KEY}/20261129{scope}/sdk_request, SignedHeaders={names}, "
            f"Signature={proof}"
        )

    def accept(self, request: SignedRequest, signature: Signature) -> None:
        verify(request, signature, secret_key=SECRET_KEY, now=self.SIGNED_AT, skew_seconds=900)

    @pytest.mark.parametrize(("request_", "scope", "proof"), CASES, ids=("catalog", "list", "create"))
    def test_what_its_go_sdk_signs_is_accepted(self, request_, scope, proof):
        self.accept(request_, self.claim(request_, scope, proof))

    @pytest.mark.parametrize("scope", ["/eu-de/", "/eu-nl/cce", "//cce", "/eu-de/cc"])
    def test_region_and_service_are_signed(self, scope):
        with pytest.raises(NotAuthenticated, match="does not belong to this request"):
            self.accept(self.LIST, self.claim(self.LIST, scope, self.CASES[1][2]))

    def test_its_proof_is_none_for_a_plain_signature(self):
        plain = replace(self.claim(self.CATALOG, "//", self.CASES[0][2]), scheme="SDK-HMAC-SHA256", scope="")

        with pytest.raises(NotAuthenticated, match="does not belong to this request"):
            self.accept(self.CATALOG, plain)

    @pytest.mark.parametrize("scope", ["", "/eu-de", "/eu-de/cce/x", f"/{'x' * 65}/cce"])
    def test_a_scope_of_another_form_is_refused(self, scope):
        with pytest.raises(NotAuthenticated, match="/sdk_request"):
            self.claim(self.CATALOG, scope, self.CASES[0][2])

    @pytest.mark.parametrize("algorithm", ["SDK-HMAC-SM3", "SDK-SM2-SM3", "V11-HMAC-SHA256"])
    def test_only_this_algorithm_takes_it(self, algorithm):
        value = f"{algorithm} Credential={ACCESS_KEY}/20261129/eu-de/cce/sdk_request, SignedHeaders=host, Signature=00"

        with pytest.raises(NotAuthenticated, match="takes Credential"):
            parse_authorization(value)


class TestUploadOfTheJavaSdk:
    """With the SM3 schemes it sends X-Sdk-Content-Sha256: UNSIGNED-PAYLOAD and signs the digest of no body."""

    BODY = body_digest(b"multipart", HMAC_SM3)

    def upload(self, content: bytes = b"UNSIGNED-PAYLOAD", *, header: bytes = b"x-sdk-content-sha256") -> SignedRequest:
        form = (b"content-type", b"multipart/form-data; boundary=x")
        headers = ((b"host", b"h"), (header, content), (b"x-sdk-date", b"20191115T033655Z"), form)
        return SignedRequest("POST", b"/v2/charts", b"", headers, self.BODY, body_empty=False)

    def claim(self, request: SignedRequest, *names: str, payload: str = HMAC_SM3.empty_digest) -> Signature:
        canonical = canonical_request(request, names, payload)
        text = f"{HMAC_SM3.name}\n20191115T033655Z\n{HMAC_SM3.hexdigest(canonical)}".encode()
        return Signature(HMAC_SM3.name, ACCESS_KEY, names, _hmac_sm3(SECRET_KEY.encode(), text).hex())

    def test_is_accepted(self):
        request = self.upload()

        accept(request, self.claim(request, "host", "x-sdk-content-sha256", "x-sdk-date"))

    def test_only_if_the_header_is_signed(self):
        request = self.upload()

        with pytest.raises(NotAuthenticated):
            accept(request, self.claim(request, "host", "x-sdk-date"))

    @pytest.mark.parametrize("content", [b"", b"unsigned-payload", HMAC_SM3.empty_digest.encode()])
    def test_only_with_that_value(self, content):
        request = self.upload(content)

        with pytest.raises(NotAuthenticated):
            accept(request, self.claim(request, "host", "x-sdk-content-sha256", "x-sdk-date"))

    @pytest.mark.parametrize("types", [[], [b"application/json"], [b"multipart/form-data", b"application/json"]])
    def test_only_for_a_form(self, types):
        request = self.upload()
        request = replace(request, headers=(*request.headers[:-1], *((b"content-type", one) for one in types)))

        with pytest.raises(NotAuthenticated):
            accept(request, self.claim(request, "host", "x-sdk-content-sha256", "x-sdk-date"))

    def test_not_beside_the_schemes_own_header(self):
        request = self.upload()
        request = replace(request, headers=(*request.headers, (b"x-sdk-content-sm3", self.BODY.encode())))

        with pytest.raises(NotAuthenticated):
            accept(request, self.claim(request, "host", "x-sdk-content-sha256", "x-sdk-date"))

    def test_not_with_sha256(self):
        request = replace(self.upload(), body_digest=body_digest(b"multipart"))
        names = ("host", "x-sdk-content-sha256", "x-sdk-date")
        claim = replace(self.claim(request, *names), scheme="SDK-HMAC-SHA256")

        with pytest.raises(NotAuthenticated):
            accept(request, claim)

    def test_the_schemes_own_header_leaves_the_body_open_too(self):
        request = self.upload(header=b"x-sdk-content-sm3")

        accept(request, self.claim(request, "host", "x-sdk-content-sm3", "x-sdk-date", payload=UNSIGNED_PAYLOAD))
