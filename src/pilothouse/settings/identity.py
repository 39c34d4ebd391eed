"""How callers prove who they are, and what is noted of them."""

from typing import Self

from pydantic import Field, model_validator

from pilothouse.settings.group import Group


class IdentitySettings(Group):
    """Authentication of callers."""

    token_seconds: float = Field(24 * 3600.0, gt=0, description="validity of a token; the vendor's are valid for 24 h")
    first_user: str = Field(
        "admin",
        pattern=r"^[A-Za-z_][A-Za-z0-9_.@-]{0,63}$",
        description="name of the administrator that the first start creates; later only commands use it",
    )
    first_domain: str = Field(
        "pilothouse",
        pattern=r"^[A-Za-z_][A-Za-z0-9_.@-]{0,63}$",
        description="name of the account that the first start creates",
    )
    lock_passwords_after: int = Field(
        5,
        ge=0,
        description="wrong passwords of a user from one address in a row; one more locks the user for that address "
        "only; 0: never lock",
    )
    lock_keys_after: int = Field(
        0,
        ge=0,
        description="wrong signatures of a key in a row; one more locks it for everyone, as the vendor does after 5. "
        "That lets anyone who knows an access key lock it, and its 238 bits need no lock; 0: never lock",
    )
    lock_seconds: float = Field(300.0, gt=0, description="duration of a lock; 5 min at the vendor")
    slow_signatures_after: int = Field(
        5,
        ge=0,
        description="wrong signatures of a key from one address in a row; further ones are answered 429, with a "
        "delay that doubles; counted per API process; 0: never",
    )
    slow_signatures_seconds: float = Field(30.0, ge=1, description="maximum delay")
    ask_again_seconds: float = Field(
        10.0,
        gt=0,
        description="how often event streams, waiting requests, streamed lists and downloads check their caller's "
        "rights again",
    )
    tokens_per_user: int = Field(1000, ge=1, description="tokens of a user; issuing one more revokes the oldest")
    session_seconds: float = Field(
        24 * 3600.0, gt=0, description="duration of a session of the console; NIST SP 800-63B-4 asks for 24 h at AAL2"
    )
    session_idle_seconds: float = Field(
        3600.0, gt=0, description="a session ends so long after its last page or write, whatever updates by itself"
    )
    sessions_per_user: int = Field(50, ge=1, description="sessions of a user; opening one more ends the oldest")
    keys_per_project: int = Field(10, ge=1, description="access keys of a user in a project")
    key_proof_seconds: float = Field(
        900.0,
        ge=0,
        description="maximum age of a token that can create an access key without the password; 0: no limit",
    )
    password_checks: int = Field(
        1,
        ge=1,
        description="passwords hashed at a time, 12 MiB and 30 ms of a core each; unauthenticated clients cause it",
    )
    password_queue: int = Field(4, ge=1, description="log-ins of one address in the queue; one more is answered 429")
    logins_per_second: float = Field(
        5.0,
        ge=0,
        description="log-ins with a password from one address, and of one person from a terminal at an identity "
        "provider, by each API process, those of ten seconds at once; one more is answered 429. Somebody who tries one "
        "password with every user is slowed, a site of people or machines is not; 0: no limit",
    )
    password_queue_seconds: float = Field(5.0, gt=0, description="how long a log-in waits for its turn before 429")

    @model_validator(mode="after")
    def _idle_ends_first(self) -> Self:
        """Refuse an idle time that never counts."""
        if self.session_idle_seconds > self.session_seconds:
            raise ValueError(
                f"SESSION_IDLE_SECONDS ({self.session_idle_seconds:g}) must not be above SESSION_SECONDS "
                f"({self.session_seconds:g}), which ends a session earlier"
            )
        return self


class AuditSettings(Group):
    """Limits of audit rows for events that change nothing (refusals, failed proofs, reads)."""

    gather_seconds: float = Field(2.0, gt=0, description="interval at which an API process writes buffered rows")
    repeat_seconds: float = Field(
        60.0, gt=0, description="the same failed proof, refusal or dry run within this time is one row"
    )
    read_seconds: float = Field(600.0, gt=0, description="the same for reads of values and downloads")
    stranger_kinds: int = Field(
        60,
        ge=1,
        description="different failed proofs per minute (address, user or key) with rows of their own, per API "
        "process; the rest is one row",
    )
    user_kinds: int = Field(120, ge=1, description="the same for refusals and reads of one user")
