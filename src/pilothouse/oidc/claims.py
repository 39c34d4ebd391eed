"""Claims of a provider as ours: a subject, a name for people, groups."""

import hashlib
import re
from collections.abc import Mapping
from typing import Any, Final

from pilothouse.errors import NotAuthenticated
from pilothouse.oidc.configuration import ProviderConfiguration

_LONGEST: Final = 256
_MOST_GROUPS: Final = 200
#: What a user may be called, and what stands for anything else in a name from a claim.
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.@-]{0,63}")
_DIGITS: Final = 12


def subject_of(claims: Mapping[str, Any]) -> str:
    """Return the subject, which with the issuer is the identity; raise NotAuthenticated."""
    subject = claims.get("sub")
    if not isinstance(subject, str) or not _is_storable(subject):
        raise NotAuthenticated(f"the claim sub is no text of 1 to {_LONGEST} characters")
    return subject


def name_of(claims: Mapping[str, Any], provider: ProviderConfiguration) -> str:
    """Return the name that the provider gives the user; one from the subject if it can be no name here."""
    name = _look_up(claims, provider.user_claim)
    if isinstance(name, str) and _NAME.fullmatch(name):
        return name
    return f"{provider.name}-{hashlib.sha256(subject_of(claims).encode()).hexdigest()[:_DIGITS]}"


def groups_of(claims: Mapping[str, Any], provider: ProviderConfiguration) -> tuple[str, ...] | None:
    """Return the groups by name; None without the claim, which states nothing: a client can ask for fewer scopes.

    Raises NotAuthenticated for what is no list of names, or too long a one.
    """
    said = _look_up(claims, provider.groups_claim)
    if said is None:
        return None
    listed = said if isinstance(said, list) else [said]
    if not all(isinstance(one, str) and _is_storable(one) for one in listed):
        raise NotAuthenticated(
            f"the claim {provider.groups_claim} is no list of groups, each of 1 to {_LONGEST} characters"
        )
    if len(listed) > _MOST_GROUPS:
        raise NotAuthenticated(
            f"the claim {provider.groups_claim} lists {len(listed)} groups, and {_MOST_GROUPS} are read at most; let "
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


def _is_storable(text: str) -> bool:
    """Return True for text that the database can hold, of a sensible length."""
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can spell
        return False
    return 0 < len(text) <= _LONGEST and "\0" not in text
