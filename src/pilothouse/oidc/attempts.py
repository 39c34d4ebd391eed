"""What a log-in under way must match at its end."""

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Attempt:
    """A log-in at a provider under way; only the browser keeps it, sealed."""

    provider: str
    state: str = field(repr=False)
    nonce: str = field(repr=False)
    verifier: str = field(repr=False)
