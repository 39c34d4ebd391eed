"""How callers prove who they are, and what is noted of them."""

from pydantic import Field

from pilothouse.settings.group import Group


class IdentitySettings(Group):
    """Authentication of callers."""

    token_seconds: float = Field(24 * 3600.0, gt=0, description="life of a token; the vendor's live 24 h")
    first_user: str = Field(
        "admin",
        pattern=r"^[A-Za-z_][A-Za-z0-9_.@-]{0,63}$",
        description="name of the administrator that the first start makes; later starts read it only for commands",
    )
    first_domain: str = Field(
        "pilothouse",
        pattern=r"^[A-Za-z_][A-Za-z0-9_.@-]{0,63}$",
        description="name of the account that the first start makes",
    )
    lock_passwords_after: int = Field(
        5,
        ge=0,
        description="wrong passwords of a user from one address in a row; one more locks the user for that address,"
        " and for no other one; 0: never lock",
    )
    lock_keys_after: int = Field(
        0,
        ge=0,
        description="wrong signatures of a key in a row; one more locks it for everybody, as at the vendor, where it is"
        " 5. Whoever knows an access key can lock it then, and its 238 bits need no lock; 0: never lock",
    )
    lock_seconds: float = Field(300.0, gt=0, description="how long a lock lasts; the vendor's last 5 min")
    slow_signatures_after: int = Field(
        5,
        ge=0,
        description="wrong signatures of a key from one address in a row; further ones are answered 429, with a wait"
        " that doubles; counted by each API process; 0: never slow",
    )
    slow_signatures_seconds: float = Field(30.0, ge=1, description="longest such wait")
    ask_again_seconds: float = Field(
        10.0,
        gt=0,
        description="how often an event stream, a request that waits, a streamed list and a download ask whether their"
        " caller still may see what they tell",
    )
    tokens_per_user: int = Field(
        1000, ge=1, description="tokens that a user may have; the oldest ends when one more is issued"
    )
    keys_per_project: int = Field(10, ge=1, description="access keys that a user may have in a project")
    key_proof_seconds: float = Field(
        900.0,
        ge=0,
        description="to make an access key, the caller gives its password, or a token that a password gave no longer"
        " ago than this; 0: nobody is asked",
    )
    password_checks: int = Field(
        1, ge=1, description="passwords hashed at a time, 12 MiB and 30 ms of a core each; strangers can ask for it"
    )
    password_queue: int = Field(
        4, ge=1, description="log-ins of one address that wait or are hashed; one more is answered 429"
    )
    password_queue_seconds: float = Field(5.0, gt=0, description="how long a log-in waits for its turn before 429")


class AuditSettings(Group):
    """Limits of audit rows for events that change nothing (refusals, failed proofs, reads)."""

    gather_seconds: float = Field(
        2.0, gt=0, description="between two times that an API process writes what it gathered"
    )
    repeat_seconds: float = Field(
        60.0, gt=0, description="the same failed proof, refusal or dry run within this time is one row"
    )
    read_seconds: float = Field(600.0, gt=0, description="the same for reads of values and downloads")
    stranger_kinds: int = Field(
        60,
        ge=1,
        description="different failed proofs a minute (address, user or key) that an API process tells apart; the rest"
        " is one row",
    )
    user_kinds: int = Field(120, ge=1, description="the same for refusals and reads of one user")
