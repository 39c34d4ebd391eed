"""Callers, and the identities that the first start creates."""

import time
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from pilothouse.auth import passwords, policy
from pilothouse.auth.policy_documents import CLUSTER_ID, NAMESPACE, PROJECT_NAME
from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import NotFound, NotPermitted
from pilothouse.store import access_keys, audit, policies, projects, roles, users
from pilothouse.store.database import Database
from pilothouse.store.places import Place
from pilothouse.store.roles import Carried


@dataclass(frozen=True)
class Proof:
    """The credentials of a request: an access key, or the digest of a token or session and the age of the log-in.

    ``idle_limit``: a session ends that many seconds after its last use. A provider's token ("bearer") has its user as
    ``id``, ends at ``expires_at``, in seconds since 1970, and has an age only if it says when a person logged in.
    ``carried`` is what counts for this token and for no other of the user; None: the groups stated last count.
    ``token`` is its text if the provider has to be asked again whether it is still valid.
    """

    kind: Literal["key", "token", "session", "bearer"]
    id: str = field(repr=False)
    age_seconds: float | None = None
    idle_limit: float | None = None
    expires_at: float | None = None
    carried: Carried | None = None
    token: str = field(default="", repr=False)


@dataclass(frozen=True)
class Where:
    """What a request is about, as far as it is known: None is not known yet. Conditions of policies ask for it."""

    cluster_id: str | None = None
    namespace: str | None = None


@dataclass(frozen=True)
class Caller:
    """Who made a request, from where, for which project, and with which roles and policies there.

    ``project_id`` is empty for a token without a project. ``account_roles`` is the subset of ``roles`` that counts in
    the whole account: only they give access to users and projects; the same holds for policies, which are texts of
    documents. ``where`` is what the request is about. ``proof`` is checked again if the request takes long, and
    ``asked_at`` is when all of this was last checked, by the monotonic clock.
    """

    user_id: str
    user_name: str
    domain_id: str
    domain_name: str
    project_id: str
    roles: frozenset[str] = frozenset()
    account_roles: frozenset[str] = frozenset()
    project_name: str = ""
    source: str = ""
    proof: Proof | None = None
    policies: tuple[str, ...] = field(default=(), repr=False)
    account_policies: tuple[str, ...] = field(default=(), repr=False)
    where: Where = Where()
    asked_at: float = field(default_factory=time.monotonic, compare=False, repr=False)

    @property
    def carried(self) -> Carried | None:
        """The groups that only the caller's token gives it; None: those that its provider stated last count."""
        return self.proof.carried if self.proof is not None else None

    def at(self, cluster_id: str | None, namespace: str | None = None) -> "Caller":
        """Return the caller for something in that cluster and namespace; what stays None is not known."""
        return replace(self, where=Where(cluster_id, namespace)) if self.policies else self

    def require(self, action: str) -> None:
        """Return if the caller may do this, else raise Forbidden, which names it.

        Roles and policies of its project count. A policy that asks for what is not known of ``where`` does not allow,
        and denies: what limits a caller to a place lets it do nothing elsewhere.
        """
        self._require(action, possibly=False)

    def require_of(self, action: str, *, cluster_id: str, namespace: str, name: str) -> None:
        """Do the same for a release that an id of something else leads to; the refusal names it, for the audit."""
        try:
            self.require(action)
        except NotPermitted as error:
            error.place = (cluster_id, namespace, name)
            raise

    def require_somewhere(self, action: str) -> None:
        """Do the same before it is known where: what is not known counts in the caller's favour."""
        self._require(action, possibly=True)

    def _require(self, action: str, *, possibly: bool) -> None:
        if not self.project_id:
            raise NotPermitted(
                f"Forbidden: {action} needs a project; request a token with scope.project, or, with the token of an "
                "identity provider, name one in which the user has a role in X-Project-Id",
                action=action,
            )
        if not self._allows(action, possibly=possibly):
            raise self._forbidden(action, self.roles, "in this project", self.policies)

    def may(self, action: str) -> bool:
        """Return True if the caller may do this, as ``require`` has it."""
        return bool(self.project_id) and self._allows(action, possibly=False)

    def may_somewhere(self, action: str) -> bool:
        """Return True if the caller may do this, as ``require_somewhere`` has it."""
        return bool(self.project_id) and self._allows(action, possibly=True)

    def require_in_account(self, action: str) -> None:
        """Do the same as ``require`` for the whole account: a role or policy in one project does not count."""
        if not self.may_in_account(action):
            raise self._forbidden(action, self.account_roles, "in the whole account", self.account_policies)

    async def limited_to(self, action: str, every: Callable[[], Awaitable[list[Place]]]) -> list[Place] | None:
        """Return those of the clusters and namespaces in which the caller may do this; None if no policy limits them.

        ``every``: reads all that there are, only if it matters. An empty namespace is not known.
        """
        if not self.policies:
            return None
        return [place for place in await every() if self.at(place[0], place[1] or None).may(action)]

    def may_in_account(self, action: str) -> bool:
        """Return True if the caller may do this in the whole account."""
        return policy.allows(self.account_roles, action, policies=self.account_policies, known={PROJECT_NAME: None})

    def _allows(self, action: str, *, possibly: bool) -> bool:
        if not self.policies:
            return policy.allows(self.roles, action)
        known: dict[str, str | None] = {PROJECT_NAME: self.project_name}
        known |= {CLUSTER_ID: self.where.cluster_id} if self.where.cluster_id is not None else {}
        known |= {NAMESPACE: self.where.namespace} if self.where.namespace is not None else {}
        return policy.allows(self.roles, action, policies=self.policies, known=known, possibly=possibly)

    def _forbidden(self, action: str, held: frozenset[str], where: str, policies: tuple[str, ...]) -> NotPermitted:
        more = f"; it has {len(policies)} policies, which may deny it, or allow it elsewhere only" if policies else ""
        return NotPermitted(
            f"Forbidden: user {self.user_name!r} lacks the permission {action} {where} "
            f"(its roles: {', '.join(sorted(held)) or 'none'}{more}); an administrator of the account can grant a role "
            "that has it",
            action=action,
        )


@dataclass(frozen=True)
class FirstCredentials:
    """What the first start created; the secrets are shown only now."""

    domain_name: str
    project_id: str
    project_name: str
    user_name: str
    password: str = field(repr=False)
    access_key: str
    secret_key: str = field(repr=False)


class Identity:
    """Create the first identities of an installation."""

    def __init__(self, database: Database, keys: MasterKeys) -> None:
        self._database = database
        self._keys = keys

    async def create_first(
        self,
        *,
        region: str,
        domain_name: str = "pilothouse",
        user_name: str = "admin",
        keep: Callable[[FirstCredentials], object] = lambda _: None,
    ) -> FirstCredentials | None:
        """Create domain, project (named like the region), user and key in an empty database, else return None.

        ``keep`` is called before anything is committed: if it raises, there is no account that nobody can enter.
        """
        first = FirstCredentials(
            domain_name=domain_name,
            project_id=uuid.uuid4().hex,
            project_name=region,
            user_name=user_name,
            password=passwords.generate_password(),
            access_key=passwords.generate_access_key(),
            secret_key=passwords.generate_secret_key(),
        )
        domain_id, user_id = uuid.uuid4().hex, uuid.uuid4().hex
        async with self._database.transaction() as tx:
            if await projects.any_domain(tx) is not None:
                return None
            await projects.add_domain(tx, domain_id=domain_id, name=first.domain_name)
            project_id, name = first.project_id, first.project_name
            await projects.add_project(
                tx, project_id=project_id, domain_id=domain_id, name=name, description="made at first start"
            )
            password_hash = passwords.hash_password(first.password)
            await users.add_user(
                tx, user_id=user_id, domain_id=domain_id, name=first.user_name, password_hash=password_hash
            )
            await roles.add_role(tx, user_id=user_id, project_id=None, role=policy.ADMINISTRATOR)
            await access_keys.add_access_key(
                tx,
                access_key=first.access_key,
                user_id=user_id,
                project_id=first.project_id,
                secret_sealed=seal_secret(first.secret_key, keys=self._keys, access_key=first.access_key),
            )
            keep(first)
        return first


async def recover_administrator(database: Database, *, domain_name: str, user_name: str) -> str:
    """Set a new password for a user, enable it and make it an administrator; for the owner of the database.

    The way back in if nobody has credentials left. Raises NotFound.
    """
    password = passwords.generate_password()
    async with database.transaction() as tx:
        user = await users.find_login(tx, name=user_name, domain_name=domain_name, address="")
        if user is None:
            raise NotFound(
                f"user {user_name!r} does not exist in the account {domain_name!r}; the first administrator is "
                "PILOTHOUSE_IDENTITY__FIRST_USER of PILOTHOUSE_IDENTITY__FIRST_DOMAIN, as they were at the first start"
            )
        await users.set_password(tx, user.id, password_hash=passwords.hash_password(password))
        await users.set_enabled(tx, user.id, enabled=True)
        await roles.add_role(tx, user_id=user.id, project_id=None, role=policy.ADMINISTRATOR)
        await policies.detach_all(tx, user.id)  # one may deny
        who = audit.Somebody(user_id=user.id, user_name=user.name, domain_id=user.domain_id)
        await audit.record(
            tx, who, "iam:users:recover", target=user.id, target_name=user.name, request_id="command line"
        )
    return password


def seal_secret(secret_key: str, *, keys: MasterKeys, access_key: str) -> bytes:
    """Return the sealed secret as stored in the database; it opens for this access key only."""
    return keys.seal(secret_key.encode(), context=_context(access_key))


def open_secret(sealed: bytes, *, keys: MasterKeys, access_key: str) -> str:
    """Return the secret of the access key; raise DecryptionFailed for another key's or a damaged one."""
    return keys.unseal(sealed, context=_context(access_key)).decode()


def _context(access_key: str) -> str:
    return f"access-key:{access_key}"
