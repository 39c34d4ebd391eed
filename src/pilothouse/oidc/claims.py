"""Claims of a provider as ours: a subject, a name for people, groups."""

from collections.abc import Mapping
from typing import Any

from pilothouse.errors import NotAuthenticated
from pilothouse.oidc.configuration import ProviderConfiguration
from pilothouse.oidc.verification import Statement
from pilothouse.providers.identities import LONGEST, MOST_GROUPS, Identity, is_storable
from pilothouse.providers.names import user_name


def identity_of(statement: Statement) -> Identity:
    """Return who the statement is about; raise NotAuthenticated for claims that are of no use."""
    claims, provider = statement.claims, statement.provider
    return Identity(
        provider=provider,
        subject=subject_of(claims),
        name=name_of(claims, provider),
        groups=groups_of(claims, provider),
        issued_at=statement.issued_at,
        expires_at=statement.expires_at,
        proved_at=statement.proved_at,
    )


def subject_of(claims: Mapping[str, Any]) -> str:
    """Return the subject, which with the issuer is the identity; raise NotAuthenticated."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not is_storable(subject):
        raise NotAuthenticated(f"the claim sub is no text of 1 to {LONGEST} characters")
    return subject


def name_of(claims: Mapping[str, Any], provider: ProviderConfiguration) -> str:
    """Return the name that the provider gives the user; one from the subject if it can be no name here."""
    return user_name(_look_up(claims, provider.user_claim), subject=subject_of(claims), provider=provider.name)


def groups_of(claims: Mapping[str, Any], provider: ProviderConfiguration) -> tuple[str, ...] | None:
    """Return the groups by name; None without the claim, which states nothing: a client can ask for fewer scopes.

    Raises NotAuthenticated for what is no list of names, or too long a one.
    """
    said = _look_up(claims, provider.groups_claim)
    if said is None:
        return None
    listed = said if isinstance(said, list) else [said]
    if not all(isinstance(group, str) and is_storable(group) for group in listed):
        raise NotAuthenticated(
            f"the claim {provider.groups_claim} is no list of groups, each of 1 to {LONGEST} characters"
        )
    if len(listed) > MOST_GROUPS:
        raise NotAuthenticated(
            f"the claim {provider.groups_claim} lists {len(listed)} groups, and {MOST_GROUPS} are read at most; let "
            "the provider filter them"
        )
    return tuple(sorted(set(listed)))


def _look_up(claims: Mapping[str, Any], claim: str) -> Any:
    """Return the claim of that name, or inside objects along a dotted one, such as ``realm_access.roles``."""
    if claim in claims:
        return claims[claim]
    found: Any = claims
    for part in claim.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found
