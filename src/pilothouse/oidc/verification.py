"""JSON Web Tokens of providers: nothing of one counts before its signature, issuer, audience and times are verified.

Source: RFC 8725 (JSON Web Token Best Current Practices), RFC 9068, OpenID Connect Core 1.0, section 3.1.3.7.
"""

import base64
import binascii
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import orjson
from authlib.oidc.core import CodeIDToken
from joserfc import jwt
from joserfc.errors import ClaimError, ExpiredTokenError, InvalidClaimError, JoseError, MissingClaimError
from joserfc.jws import JWSRegistry

from pilothouse.auth.tokens import is_jwt
from pilothouse.errors import NotAuthenticated
from pilothouse.oidc.configuration import ProviderConfiguration
from pilothouse.oidc.provider import Provider
from pilothouse.oidc.token_hashes import half_hash

#: What tokens call themselves; others, such as those that end sessions, are for something else.
_ID_TOKENS: Final = frozenset({"", "jwt"})
_ACCESS_TOKENS: Final = _ID_TOKENS | {"at+jwt", "application/at+jwt"}
_LONGEST_HEADER: Final = 4096
_LONGEST_SIGNATURE: Final = 2048
#: The vendor's words, which its clients show.
_REFUSED: Final = "decrypt token fail"
_REASONS: Final = {
    "aud": "it is meant for another audience",
    "azp": "it was made for another client",
    "client_id": "it was made for another client",
    "exp": "it does not say until when it is valid, as a number",
    "nbf": "it is not valid yet",
    "iat": "it was made in the future",
    "nonce": "it belongs to another log-in",
    "at_hash": "it belongs to another access token",
}


@dataclass(frozen=True)
class Statement:
    """What a provider says of a person or program: identity, groups, and since when and how long.

    ``proved_at``: when a person logged in there; None if it does not say so, as for a pipeline.
    """

    provider: ProviderConfiguration
    claims: Mapping[str, Any]
    issued_at: float
    expires_at: float
    proved_at: float | None


@dataclass(frozen=True)
class _Unverified:
    """What a token says before it is verified."""

    algorithm: str
    kid: str | None
    issuer: str


async def verify_bearer(token: str, providers: Mapping[str, Provider]) -> Statement:
    """Return what the token of a caller says; raise NotAuthenticated, or ProviderUnavailable if nobody can tell.

    ``providers`` by issuer.
    """
    said = _read(token, _ACCESS_TOKENS, purpose="access")
    provider = providers.get(said.issuer)
    if provider is None or not provider.configuration.audience:
        raise NotAuthenticated(f"{_REFUSED}, its issuer is none whose tokens are accepted here")
    audience = provider.configuration.audience
    found = await _verify_signature(token, said, provider)
    options = _options(provider.configuration.issuer, audience)
    registry = jwt.JWTClaimsRegistry(leeway=provider.settings.leeway_seconds, **options)
    try:
        registry.validate(found.claims)
    except JoseError as error:
        raise NotAuthenticated(f"{_REFUSED}, {_reason(error)}") from error
    return _statement(provider, found.claims)


async def verify_id_token(
    token: str, provider: Provider, *, client_id: str, nonce: str, access_token: str
) -> Statement:
    """Return what the token of a log-in by that client says; raise NotAuthenticated or ProviderUnavailable.

    ``nonce`` is empty for a log-in that has none. A token without ``at_hash`` proves nothing of the access token.
    """
    said = _read(token, _ID_TOKENS, purpose="a log-in")
    found = await _verify_signature(token, said, provider)
    claims = CodeIDToken(
        found.claims,
        found.header,
        options=_options(provider.configuration.issuer, client_id),
        params={"nonce": nonce, "client_id": client_id},
    )
    try:
        if nonce and not isinstance(found.claims.get("nonce"), str):
            raise MissingClaimError("nonce")
        if not nonce and found.claims.get("nonce"):
            raise InvalidClaimError("nonce")
        claims.validate(leeway=provider.settings.leeway_seconds)
        if found.claims.get("client_id", client_id) != client_id:
            raise InvalidClaimError("client_id")
        _check_hash(found.claims, half_hash(access_token, said.algorithm))
    except JoseError as error:
        raise NotAuthenticated(f"{_REFUSED}, {_reason(error)}") from error
    return _statement(provider, found.claims)


def _check_hash(claims: Mapping[str, Any], wanted: str) -> None:
    """Raise InvalidClaimError for a hash of another access token; a token may have none."""
    said = claims.get("at_hash", wanted)
    if not isinstance(said, str) or not hmac.compare_digest(said.encode("utf-8", "surrogatepass"), wanted.encode()):
        raise InvalidClaimError("at_hash")


async def _verify_signature(token: str, said: _Unverified, provider: Provider) -> jwt.Token:
    if len(token) > provider.settings.token_bytes:
        raise NotAuthenticated(f"{_REFUSED}, it is longer than {provider.settings.token_bytes} bytes")
    allowed = provider.configuration.algorithms
    if said.algorithm not in allowed:
        raise NotAuthenticated(f"{_REFUSED}, it is not signed with one of {', '.join(allowed)}")
    key = await provider.find_key(said.kid, said.algorithm)
    if key is None:
        raise NotAuthenticated(f"{_REFUSED}, it is signed with a key that its issuer does not publish")
    registry = JWSRegistry(algorithms=[said.algorithm], strict_check_header=False)
    registry.max_header_length = _LONGEST_HEADER
    registry.max_signature_length = _LONGEST_SIGNATURE
    try:
        return jwt.decode(token, key, registry=registry)
    except (JoseError, ValueError, RecursionError) as error:
        raise NotAuthenticated(f"{_REFUSED}, its signature is wrong") from error


def _read(token: str, kinds: frozenset[str], *, purpose: str) -> _Unverified:
    """Read what tells how to verify a token of these kinds; raise NotAuthenticated."""
    if not is_jwt(token):
        raise NotAuthenticated(f"{_REFUSED}, it is no JSON Web Token")
    header, payload = (_parse(segment) for segment in token.split(".")[:2])
    algorithm, kid, kind = header.get("alg"), header.get("kid"), header.get("typ", "")
    if not isinstance(algorithm, str) or not (kid is None or isinstance(kid, str)) or not isinstance(kind, str):
        raise NotAuthenticated(f"{_REFUSED}, its header is malformed")
    if kind.lower() not in kinds or "crit" in header or "b64" in header:
        raise NotAuthenticated(f"{_REFUSED}, it is a token for something else than {purpose}")
    issuer = payload.get("iss")
    return _Unverified(algorithm, kid, issuer if isinstance(issuer, str) else "")


def _parse(segment: str) -> dict[str, Any]:
    try:
        parsed = orjson.loads(base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4)))
    except (binascii.Error, ValueError) as error:
        raise NotAuthenticated(f"{_REFUSED}, it is damaged") from error
    if not isinstance(parsed, dict):
        raise NotAuthenticated(f"{_REFUSED}, it is damaged")
    return parsed


def _options(issuer: str, audience: str) -> dict[str, Any]:
    return {
        "iss": {"essential": True, "value": issuer},
        "aud": {"essential": True, "value": audience},
        "sub": {"essential": True},
        "exp": {"essential": True},
        "iat": {"essential": True},
    }


def _reason(error: JoseError) -> str:
    if isinstance(error, ExpiredTokenError):
        return "it has expired"
    if isinstance(error, MissingClaimError):
        return f"it lacks the claims {error.claim}"
    if isinstance(error, ClaimError):
        return _REASONS.get(error.claim, f"its claim {error.claim} is not acceptable")
    return "it is damaged"


def _statement(provider: Provider, claims: dict[str, Any]) -> Statement:
    """Return the statement if the claims are what the settings want of them; raise NotAuthenticated."""
    issued_at, expires_at, longest = float(claims["iat"]), float(claims["exp"]), provider.settings.token_seconds
    if expires_at - issued_at > longest:
        raise NotAuthenticated(
            f"{_REFUSED}, it is valid for more than {longest:g} s, which PILOTHOUSE_OIDC__TOKEN_SECONDS allows at most"
        )
    for name, wanted in provider.configuration.required_claims.items():
        said = claims.get(name)
        if wanted not in (said if isinstance(said, list) else [said]):
            raise NotAuthenticated(f"{_REFUSED}, its claim {name} is not what this server requires")
    proved_at = _logged_in_at(claims.get("auth_time"), issued_at)
    return Statement(provider.configuration, claims, issued_at, expires_at, proved_at)


def _logged_in_at(said: object, issued_at: float) -> float | None:
    """Return the time of a log-in if that is what was said; none is later than the token."""
    if isinstance(said, bool) or not isinstance(said, int | float) or not 0 <= said <= issued_at:
        return None
    return float(said)
