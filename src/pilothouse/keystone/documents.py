"""What Keystone says of a token, as ours: the user, and its roles in the token's project as groups.

A group is called ``DOMAIN/PROJECT:ROLE`` by name and ``PROJECT:ROLE`` by the project's id; a name's own ``/``, ``:``
and ``%`` are percent-encoded, so that no project or role can be named like the group of another.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from pilothouse.errors import Forbidden, NotAuthenticated
from pilothouse.providers.identities import LONGEST, MOST_GROUPS, Identity, is_storable
from pilothouse.providers.names import user_name
from pilothouse.settings import KeystoneSettings

_REFUSED: Final = "decrypt token fail"
#: Whose tokens Keystone gives in the name of the user who trusts, with no sign of it but these.
_OF_OTHERS: Final = {"OS-TRUST:trust": "a trust", "OS-OAUTH1": "an OAuth consumer"}
_CREDENTIAL: Final = "application_credential"
_QUOTED: Final = str.maketrans({"%": "%25", "/": "%2F", ":": "%3A"})
#: Each role is a group by name and one by id.
_MOST_ROLES: Final = MOST_GROUPS // 2


@dataclass(frozen=True)
class KeystoneProvider:
    """Keystone as its users and groups know it."""

    name: str
    shown: str
    issuer: str
    account: str
    groups_claim: str = "roles"


@dataclass(frozen=True)
class KeystoneToken:
    """What a valid token says: who, and in which project of Keystone."""

    identity: Identity
    project_id: str


def provider_of(settings: KeystoneSettings) -> KeystoneProvider:
    """Return the Keystone of the settings as a provider."""
    return KeystoneProvider(settings.name, settings.title or settings.name, settings.url, settings.account)


def read_token(token: Mapping[str, Any], provider: KeystoneProvider) -> KeystoneToken:
    """Return what the token says; raise Forbidden for one that is not for a project, NotAuthenticated for others."""
    if token.get("oauth2_credential"):
        raise NotAuthenticated(f"{_REFUSED}, it is bound to a certificate of its client, which cannot be verified here")
    for name, what in _OF_OTHERS.items():
        if name in token:
            raise NotAuthenticated(f"{_REFUSED}, it is of {what}, by which another acts for the user; use one's own")
    user = _object(token.get("user"))
    subject, times = _text(user.get("id")), [_moment(token.get(name)) for name in ("issued_at", "expires_at")]
    project_id, groups = _groups(token)
    return KeystoneToken(
        Identity(
            provider=provider,
            subject=subject,
            name=user_name(user.get("name"), subject=subject, provider=provider.name),
            groups=groups,
            issued_at=times[0],
            expires_at=times[1],
            proved_at=None,
            carried=True,
            delegated=_is_delegated(token),
        ),
        project_id,
    )


def _groups(token: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """Return the project's id, and the names of its roles as groups."""
    if "project" not in token or token.get("is_domain"):
        raise Forbidden("the token of Keystone is not for a project; request one with scope.project there")
    project = _object(token["project"])
    project_id = _text(project.get("id"))
    places = [_quoted(project_id)]
    domain = _object(project.get("domain"))
    places.append(f"{_quoted(_text(domain.get('name')))}/{_quoted(_text(project.get('name')))}")
    roles = token.get("roles")
    if not isinstance(roles, list) or len(roles) > _MOST_ROLES:
        raise NotAuthenticated(f"{_REFUSED}, it has no list of at most {_MOST_ROLES} roles")
    names = [_quoted(_text(_object(role).get("name"))) for role in roles]
    groups = {f"{place}:{name}" for place in places for name in names}
    return project_id, tuple(sorted(name for name in groups if len(name) <= LONGEST))


def _is_delegated(token: Mapping[str, Any]) -> bool:
    methods = token.get("methods")
    return _CREDENTIAL in token or (isinstance(methods, list) and _CREDENTIAL in methods)


def _quoted(name: str) -> str:
    return name.translate(_QUOTED)


def _object(said: object) -> Mapping[str, Any]:
    if not isinstance(said, dict):
        raise NotAuthenticated(f"{_REFUSED}, what Keystone says of it is not understood")
    return said


def _text(said: object) -> str:
    if not isinstance(said, str) or not is_storable(said):
        raise NotAuthenticated(f"{_REFUSED}, what Keystone says of it is not understood")
    return said


def _moment(said: object) -> float:
    try:
        moment = datetime.fromisoformat(_text(said))
    except ValueError as error:
        raise NotAuthenticated(f"{_REFUSED}, what Keystone says of it is not understood") from error
    if moment.tzinfo is None:
        raise NotAuthenticated(f"{_REFUSED}, what Keystone says of it is not understood")
    return moment.timestamp()
