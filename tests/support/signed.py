"""Signed requests as a wire carries them, signed by the vendor's SDK, and changes to them."""

import hmac
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qsl, quote, unquote_to_bytes

from huaweicloudsdkcore.sdk_request import SdkRequest
from huaweicloudsdkcore.signer.signer import DerivationAKSKSigner, P256SHA256Signer, Signer, SM2SM3Signer, SM3Signer

from pilothouse.auth.schemes import SCHEMES
from pilothouse.auth.signing import SignedRequest, check_headers, parse_authorization, verify
from pilothouse.errors import NotAuthenticated


class StepwiseSigner(Signer):  # type: ignore[misc]  # the SDK publishes no types
    """What Open Telekom Cloud's Go SDK does beside the plain scheme: a key derived from the parts of a scope."""

    def sign(self, request: SdkRequest, service: str, region: str) -> SdkRequest:
        date = self._get_header_ignore_case(request, self._HEADER_X_DATE)[:8]
        self._scope = f"{date}/{region}/{service}/sdk_request"
        return super().sign(request)

    def _process_string_to_sign(self, canonical_request: str, time: datetime) -> str:
        algorithm, date, digest = super()._process_string_to_sign(canonical_request, time).split("\n")
        return f"{algorithm}\n{date}\n{self._scope}\n{digest}"

    def _sign_string_to_sign(self, string_to_sign: str, key: str) -> str:
        derived = f"SDK{key}".encode()
        for part in self._scope.split("/"):
            derived = hmac.digest(derived, part.encode(), "sha256")
        return hmac.digest(derived, string_to_sign.encode(), "sha256").hex()

    def _process_auth_header_value(self, signature: str, app_key: str, signed_headers: list[str]) -> str:
        names = ";".join(signed_headers)
        return f"{self._ALGORITHM} Credential={app_key}/{self._scope}, SignedHeaders={names}, Signature={signature}"


SIGNERS: dict[str, Any] = {
    "SDK-HMAC-SHA256": Signer,
    "SDK-HMAC-SM3": SM3Signer,
    "SDK-ECDSA-P256-SHA256": P256SHA256Signer,
    "SDK-SM2-SM3": SM2SM3Signer,
    "V11-HMAC-SHA256": DerivationAKSKSigner,
    "SDK-HMAC-SHA256/sdk_request": StepwiseSigner,
}


@dataclass(frozen=True)
class Keys:
    """An access key with its secret, under the names that the SDK reads."""

    ak: str
    sk: str


@dataclass(frozen=True)
class Wire:
    """A request as it travels; header names are lower case, the Authorization header stands apart."""

    method: str
    path: bytes
    query: bytes
    headers: tuple[tuple[bytes, bytes], ...]
    authorization: str
    body: bytes

    @property
    def target(self) -> bytes:
        """The request target."""
        return self.path + b"?" + self.query if self.query else self.path


def sign_by_sdk(
    keys: Keys,
    scheme: str = "SDK-HMAC-SHA256",
    *,
    method: str = "GET",
    host: str = "127.0.0.1:8440",
    path: str = "/v2/charts",
    query: Sequence[tuple[str, str]] = (),
    headers: Sequence[tuple[str, str]] = (),
    body: bytes = b"",
    at: datetime | None = None,
) -> Wire:
    """Return the request as the vendor's SDK would send it."""
    date = (at or datetime.now(UTC)).strftime("%Y%m%dT%H%M%SZ")
    made = SdkRequest(
        method=method,
        schema="http",
        host=host,
        resource_path=path,
        query_params=list(query),
        header_params={"X-Sdk-Date": date, **dict(headers)},
        body=body,
    )
    scope = ("cce", "cn-north-4") if SCHEMES[scheme].scoped else ()
    SIGNERS[scheme](keys).sign(made, *scope)
    raw_path, _, raw_query = made.uri.encode("ascii").partition(b"?")
    given = [(name.lower().encode(), value.encode("latin-1")) for name, value in made.header_params.items()]
    authorization = dict(given)[b"authorization"].decode()
    rest = tuple(pair for pair in given if pair[0] != b"authorization")
    return Wire(method, raw_path, raw_query, rest, authorization, body)


def is_accepted(wire: Wire, secret_key: Callable[[str], str | None], *, now: datetime) -> bool:
    """Return what the gateway would say, without a network; ``secret_key`` finds the secret of an access key."""
    try:
        signature = parse_authorization(wire.authorization)
        check_headers(wire.headers, signature, now=now, skew_seconds=900)
        secret = secret_key(signature.access_key)
        if secret is None:
            return False
        request = SignedRequest(
            method=wire.method,
            raw_path=wire.path,
            query_string=wire.query,
            headers=wire.headers,
            body_digest=SCHEMES[signature.scheme].hexdigest(wire.body),
            body_empty=not wire.body,
        )
        verify(request, signature, secret_key=secret, now=now, skew_seconds=900)
    except NotAuthenticated:
        return False
    return True


def meaning(wire: Wire, signed_by: Wire) -> object:
    """Return what the signature of ``signed_by`` promises about a request; requests of one meaning may all be accepted.

    Left out, each because the vendor's rules leave it out:
    - headers that are not in SignedHeaders (the official rule is that only X-Sdk-Date must be there);
    - the order of query parameters, '+' for a space, and how bytes are percent-encoded;
    - one slash at the end of the path;
    - the order of headers, also among values of one name, and white space around values;
    - the body, if the client signed UNSIGNED-PAYLOAD for it;
    - white space between the parts of the Authorization header.
    """
    names = signed_by.authorization.partition("SignedHeaders=")[2].partition(",")[0].split(";")
    path = unquote_to_bytes(wire.path)
    content = dict(signed_by.headers).get(SCHEMES[scheme_of(signed_by)].content_header)
    is_open = content == b"UNSIGNED-PAYLOAD" and signed_by.body
    return (
        wire.method.upper(),
        path if path.endswith(b"/") else path + b"/",
        sorted(parse_qsl(wire.query.decode("latin-1"), keep_blank_values=True, encoding="latin-1")),
        [sorted(value.strip(b" \t") for key, value in wire.headers if key == name.encode()) for name in names],
        [" ".join(part.split()) for part in wire.authorization.split(",")],
        None if is_open else wire.body,
    )


def scheme_of(wire: Wire) -> str:
    """Return the name of the scheme that the Authorization header states."""
    algorithm, _, claim = wire.authorization.partition(" ")
    is_stepwise = algorithm == "SDK-HMAC-SHA256" and claim.startswith("Credential=")
    return f"{algorithm}/sdk_request" if is_stepwise else algorithm


class Mutator:
    """Changes requests at random; the same ``random`` gives the same changes."""

    def __init__(self, rng: random.Random, others: Sequence[Wire]) -> None:
        """``others`` are signed requests whose parts are mixed in."""
        self._rng = rng
        self._others = others
        self._changes = (
            self._method,
            self._path,
            self._query,
            self._header,
            self._header,
            self._body,
            self._date,
            self._proof,
            self._proof,
            self._claim,
            self._splice,
            self._boundary,
        )

    def mutate(self, wire: Wire) -> Wire:
        """``wire`` with one to three changes."""
        for _ in range(self._rng.choice((1, 1, 1, 2, 3))):
            wire = self._rng.choice(self._changes)(wire)
        return wire

    def _method(self, wire: Wire) -> Wire:
        methods = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "G", wire.method + "X"]
        return replace(wire, method=self._rng.choice(methods))

    def _path(self, wire: Wire) -> Wire:
        rng = self._rng
        steps = wire.path.split(b"/")
        where = rng.randrange(len(steps))
        kind = rng.randrange(7)
        if kind == 0:
            steps.insert(where, rng.choice([b"", b".", b"..", b"%2e%2e", b"x", b"%00"]))
        elif kind == 1 and len(steps) > 1:
            del steps[where]
        elif kind == 2:
            rng.shuffle(steps)
        elif kind == 3:
            return replace(wire, path=quote(wire.path, safe="/").encode())  # encoded once more
        else:
            return replace(wire, path=self._bytes(wire.path, printable=True).replace(b"?", b"!"))
        return replace(wire, path=b"/" + b"/".join(steps).lstrip(b"/"))

    def _query(self, wire: Wire) -> Wire:
        rng = self._rng
        pairs = wire.query.split(b"&") if wire.query else []
        kind = rng.randrange(6)
        if kind == 0:
            pairs.append(rng.choice([b"a=1", b"show_resources=true", b"namespace=", b"=", b"%00=%00", b"a;b=1"]))
        elif kind == 1 and pairs:
            del pairs[rng.randrange(len(pairs))]
        elif kind == 2 and pairs:
            pairs.append(rng.choice(pairs))
        elif kind == 3 and pairs:
            key, _, value = pairs.pop().partition(b"=")
            pairs.append(value + b"=" + key)
        else:
            return replace(wire, query=self._bytes(wire.query, printable=True))
        return replace(wire, query=b"&".join(pairs))

    def _header(self, wire: Wire) -> Wire:
        rng = self._rng
        headers = list(wire.headers)
        if not headers:
            return wire
        where = rng.randrange(len(headers))
        name, value = headers[where]
        kind = rng.randrange(8)
        if kind == 0:
            del headers[where]
        elif kind == 1:
            headers.insert(rng.randrange(len(headers) + 1), (name, rng.choice([value, b"", value + b"x"])))
        elif kind == 2:
            headers[where] = (rng.choice([name + b"x", b"x-" + name, name.replace(b"-", b"_")]), value)
        elif kind == 3:
            other = rng.randrange(len(headers))
            headers[where], headers[other] = (name, headers[other][1]), (headers[other][0], value)
        elif kind == 4:
            content = rng.choice([b"UNSIGNED-PAYLOAD", b"", b"0" * 64])
            headers.append((rng.choice([b"x-sdk-content-sha256", b"x-sdk-content-sm3"]), content))
        else:
            headers[where] = (name, self._bytes(value, printable=True))
        return replace(wire, headers=tuple(headers))

    def _body(self, wire: Wire) -> Wire:
        kind = self._rng.randrange(4)
        if kind == 0:
            return replace(wire, body=b"")
        if kind == 1:
            return replace(
                wire, body=self._rng.choice([b"{}", b"x", wire.body * 2, wire.body + b"\n", b" " + wire.body])
            )
        return replace(wire, body=self._bytes(wire.body, printable=False))

    def _date(self, wire: Wire) -> Wire:
        headers = dict(wire.headers)
        given = headers.get(b"x-sdk-date", b"").decode("latin-1")
        try:
            date = datetime.strptime(given, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        except ValueError:
            return wire
        moved = date + timedelta(seconds=self._rng.choice([-86400, -901, -60, -1, 1, 60, 901, 86400]))
        headers[b"x-sdk-date"] = moved.strftime("%Y%m%dT%H%M%SZ").encode()
        return replace(wire, headers=tuple(headers.items()))

    def _proof(self, wire: Wire) -> Wire:
        head, _, proof = wire.authorization.rpartition("Signature=")
        rng = self._rng
        kind = rng.randrange(6)
        where = rng.randrange(len(proof) + 1)
        if kind == 0:
            proof = proof[:where]
        elif kind == 1:
            proof = proof[:where] + rng.choice("0123456789abcdefABCDEF ;=") + proof[where:]
        elif kind == 2:
            proof = "".join(rng.choice("0123456789abcdef") for _ in proof)
        elif kind == 3:
            proof = rng.choice([proof.upper(), "0" * len(proof), "f" * len(proof), "", "00" + proof, proof + "00"])
        else:
            proof = proof[: where - 1] + rng.choice("0123456789abcdef") + proof[where:] if where else proof[1:]
        return replace(wire, authorization=f"{head}Signature={proof}")

    def _claim(self, wire: Wire) -> Wire:
        rng = self._rng
        head, _, rest = wire.authorization.partition("SignedHeaders=")
        names, _, proof = rest.partition(", Signature=")
        listed = names.split(";")
        kind = rng.randrange(7)
        if kind == 0:
            del listed[rng.randrange(len(listed))]
        elif kind == 1:
            listed.insert(rng.randrange(len(listed) + 1), rng.choice(["accept", "host", "x", "", "x-sdk-date"]))
        elif kind == 2:
            rng.shuffle(listed)
        elif kind == 3:
            head = head.replace(head.split(" ")[0], rng.choice([*SIGNERS, "SDK-HMAC-MD5", "none"]), 1)
        elif kind == 4:
            other = rng.choice(self._others).authorization.partition("SignedHeaders=")[0]
            head = other
        elif kind == 5:
            head = self._bytes(head.encode("latin-1"), printable=True).decode("latin-1")
        else:
            names = self._bytes(names.encode("latin-1"), printable=True).decode("latin-1")
            return replace(wire, authorization=f"{head}SignedHeaders={names}, Signature={proof}")
        return replace(wire, authorization=f"{head}SignedHeaders={';'.join(listed)}, Signature={proof}")

    def _splice(self, wire: Wire) -> Wire:
        """Return a part of another request, which is signed by the same or another key."""
        part = self._rng.choice(["method", "path", "query", "headers", "authorization", "body"])
        changed: dict[str, Any] = {part: getattr(self._rng.choice(self._others), part)}
        return replace(wire, **changed)

    def _boundary(self, wire: Wire) -> Wire:
        """Move what is signed from one part into its neighbour."""
        kind = self._rng.randrange(4)
        if kind == 0 and wire.query:
            return replace(wire, path=wire.path + b"%3F" + wire.query.replace(b"?", b"!"), query=b"")
        if kind == 1 and b"/" in wire.path[1:]:
            path, _, last = wire.path.rpartition(b"/")
            return replace(wire, path=path, query=last + b"&" + wire.query)
        if kind == 2 and len(wire.headers) > 1:
            (name, value), (other, text), *rest = wire.headers
            return replace(wire, headers=((name, value + b" " + other + b":" + text), *rest))
        return replace(wire, query=wire.query + b"&" + wire.body.hex().encode(), body=b"")

    def _bytes(self, data: bytes, *, printable: bool) -> bytes:
        """Return ``data`` with one byte changed, added, taken out, or two exchanged; printable: as HTTP allows."""
        rng = self._rng
        fresh = rng.randrange(33, 127) if printable else rng.randrange(256)
        changed = bytearray(data)
        where = rng.randrange(len(changed) + 1)
        kind = rng.randrange(4)
        if kind == 0 or len(changed) < 2:
            changed.insert(where, fresh)
        elif kind == 1:
            del changed[min(where, len(changed) - 1)]
        elif kind == 2:
            changed[min(where, len(changed) - 1)] = fresh
        else:
            other = rng.randrange(len(changed))
            where = min(where, len(changed) - 1)
            changed[where], changed[other] = changed[other], changed[where]
        return bytes(changed)
