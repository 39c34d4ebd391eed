"""What a provider says of a person or program, verified, in the same form whatever the provider is."""

from dataclasses import dataclass
from typing import Final, Protocol

LONGEST: Final = 256
MOST_GROUPS: Final = 200


class Voucher(Protocol):
    """A provider as its users and groups know it."""

    @property
    def name(self) -> str:
        """The name of the provider here, in addresses and the audit log."""
        ...

    @property
    def shown(self) -> str:
        """The name of the provider for people."""
        ...

    @property
    def issuer(self) -> str:
        """The text that makes its users and groups others than those of another provider."""
        ...

    @property
    def account(self) -> str:
        """The name of the account that its users belong to; empty: the first."""
        ...

    @property
    def groups_claim(self) -> str:
        """The name that it has for groups, for messages."""
        ...


@dataclass(frozen=True)
class Identity:
    """Who somebody is, in which groups, and since when and how long.

    ``groups`` None: it states nothing of them. ``carried``: they count for this token, and for no other of the user.
    ``delegated``: it is somebody's or something's to whom the user has handed a part of its rights.
    ``proved_at``: when a person logged in there; None if it does not say so, as for a pipeline.
    """

    provider: Voucher
    subject: str
    name: str
    groups: tuple[str, ...] | None
    issued_at: float
    expires_at: float
    proved_at: float | None
    carried: bool = False
    delegated: bool = False


def is_storable(text: str) -> bool:
    """Return True for text that the database can hold, of a sensible length."""
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate, which JSON can spell
        return False
    return 0 < len(text) <= LONGEST and "\0" not in text
