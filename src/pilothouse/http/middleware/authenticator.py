"""What authentication needs to know of keys, callers and their directory; the services provide it."""

from typing import Protocol, TypeVar


class KnownKey(Protocol):
    """An enabled access key; its other attributes are the authenticator's business."""

    @property
    def secret_key(self) -> str:
        """The secret in the clear."""
        ...

    @property
    def caller(self) -> "Caller":
        """The owner of the key."""
        ...


class Caller(Protocol):
    """The caller and its project."""

    @property
    def user_id(self) -> str:
        """The id of the user."""
        ...

    @property
    def project_id(self) -> str:
        """The id of the project that the request acts in."""
        ...


K = TypeVar("K", bound=KnownKey)


class Authenticator(Protocol[K]):
    """Looks up access keys and projects."""

    async def find_key(self, access_key: str, project_id: str | None, source: str, /) -> K | None:
        """Return the holder of an enabled access key with its rights in that project or its own; else None.

        Nothing is proved yet at this point; only ``select_project`` learns what it found. ``source`` is the request's
        address. Raises NotAuthenticated for a key that must not be tried now, and Busy for one that must not be tried
        from there now.
        """
        ...

    async def select_project(self, known: K, project_id: str | None, /) -> Caller:
        """Return the caller in the project that the key was looked up for.

        Raises NotFound or Forbidden if the key may not use the project. Called for proved keys only.
        """
        ...

    async def reject_key(self, known: K, /) -> None:
        """Record a wrong signature of this key; may raise Busy, which is then the answer."""
        ...

    async def note_unusable(self, access_key: str, source: str, reason: str, /) -> None:
        """Record a request that named that key and proved nothing, for a reason visible in its headers."""
        ...

    async def find_token(self, token: str, project_id: str | None, source: str, /) -> Caller:
        """Return the caller of a valid token, which must match the project that the request names.

        Raises NotAuthenticated, or NotFound or Forbidden if it may not use that project.
        """
        ...
