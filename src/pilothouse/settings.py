"""Every setting, read once at start-up; nothing else in the project reads the environment.

Variables are ``PILOTHOUSE_<FIELD>``, nested ones ``PILOTHOUSE_<GROUP>__<FIELD>``, for example
``PILOTHOUSE_PORT=8440`` and ``PILOTHOUSE_ENGINE__CHILDREN=4``. Durations are seconds, sizes bytes.
"""

import ipaddress
import os
from pathlib import Path
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

_MIB = 1024 * 1024

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def default_data_dir() -> Path:
    """Return the folder for keys, sockets, logs and the embedded database: system-wide for root, else the user's."""
    if os.geteuid() == 0:
        return Path("/var/lib/pilothouse")
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "pilothouse"


def networks(text: str) -> tuple[Network, ...]:
    """Return the networks of a comma-separated list; raise ValueError for an invalid one."""
    return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ChartLimits(_Group):
    """Limits of an archive, checked before it is opened; counted over all nested archives together."""

    unpacked_bytes: int = Field(100 * _MIB, description="sum of all files; Helm's own limit is per archive")
    file_bytes: int = Field(5 * _MIB, description="one file; Helm's own limit for a decompressed file")
    files: int = Field(10_000, description="files and folders; more is no chart but an attack")
    depth: int = Field(4, description="archives inside charts/ inside archives; real charts reach 2")
    values_bytes: int = Field(1 * _MIB, description="values.yaml as JSON; a release Secret holds 1 MiB")


class EngineSettings(_Group):
    """The processes that run Helm."""

    children: int = Field(
        2,
        ge=1,
        description="children of the API that work at a time: one is always there, others are started when they are"
        " needed (0.2 s); more than cores buy nothing",
    )
    idle_seconds: float = Field(
        120.0, ge=0, description="how long a child beyond the first is kept that has nothing to do (14 MB)"
    )
    memory_bytes: int = Field(
        3072 * _MIB, description="RLIMIT_AS of a child; below 1 GiB it does not start: Go reserves half of that"
    )
    cpu_seconds: int = Field(120, description="CPU time one operation may use before the kernel ends the child")
    recycle_after: int = Field(
        200, ge=1, description="operations after which a child is replaced (what hostile templates took is given back)"
    )
    answer_seconds: float = Field(30.0, description="deadline for what is answered at once: dry run, name template")
    name_seconds: float = Field(1.0, gt=0, description="deadline of a name template, which takes milliseconds")
    queue_seconds: float = Field(5.0, description="how long such a call waits for a free child before 429")
    waiting_per_project: int = Field(
        16, ge=1, description="calls of a project that wait for one; each can hold an archive in memory"
    )
    qps: float = Field(200.0, description="requests per second to the cluster; Helm's default of 5 starves")
    burst: int = Field(400, description="burst over qps")
    parallel_objects: int = Field(
        48,
        ge=1,
        description="objects of one kind looked up, applied or deleted at a time, as far as qps allows",
    )


class WorkerSettings(_Group):
    """Execution of accepted operations."""

    operations: int = Field(
        4,
        ge=1,
        description="operations that work at a time in a worker process, one engine child each; two more than cores,"
        " because a child rests while its operation asks the cluster and the database, and one place is reserved",
    )
    waiting: int = Field(
        16,
        ge=0,
        description="operations that may wait for their cluster beside those places, half of them of one project: each"
        " needs no processor, but an engine child (30 MB); what waits beyond it holds its place",
    )
    reserved: int = Field(
        1,
        ge=0,
        description="so many of these places no API server gets beside all others, and a project twice as many fewer:"
        " one tenant whose releases never become ready does not stop the rest; of one place it gets its turn",
    )
    lease_seconds: float = Field(6.0, description="how long an attempt is trusted without a renewal")
    lease_margin_seconds: float = Field(1.0, description="added before another worker takes over")
    renew_seconds: float = Field(1.0, description="between two renewals")
    fence_seconds: float = Field(
        4.0, description="without a confirmed renewal for this long the worker kills the child"
    )
    poll_seconds: float = Field(1.0, description="queue look-up when no notification came")
    timeout_seconds: float = Field(
        300.0, description="deadline of one operation, over all attempts; Helm's default is 5 min"
    )
    longest_timeout_seconds: int = Field(
        3600,
        ge=1,
        description="most that X-Pilothouse-Timeout may ask for: an operation that waits holds its place so long",
    )
    undo_timeout_seconds: float = Field(
        300.0, description="deadline of undoing an operation that is cancelled, counted from its cancel"
    )
    drain_seconds: float = Field(60.0, description="after SIGTERM, how long running operations may finish")
    collect_seconds: float = Field(60.0, description="between two looks for chart archives that nothing uses")
    unused_archive_seconds: float = Field(
        600.0, description="how long such an archive is kept; more than the longest request and download take"
    )
    attempts: int = Field(3, ge=1, description="attempts that may end in a crash before the operation is given up")

    @model_validator(mode="after")
    def _lease_outlives_the_fence(self) -> Self:
        """Refuse what would let two attempts write at once: a child must be dead before its lease can be taken."""
        if not 0 < self.renew_seconds < self.fence_seconds < self.lease_seconds:
            raise ValueError(
                "RENEW_SECONDS must be above 0 and below FENCE_SECONDS, and that below LEASE_SECONDS; they are "
                f"{self.renew_seconds:g}, {self.fence_seconds:g} and {self.lease_seconds:g}"
            )
        if self.lease_margin_seconds <= 0:
            raise ValueError(f"LEASE_MARGIN_SECONDS must be above 0, and is {self.lease_margin_seconds:g}")
        return self

    @model_validator(mode="after")
    def _default_is_no_longer_than_the_longest(self) -> Self:
        """Refuse a default deadline that exceeds the maximum of a request."""
        if self.timeout_seconds > self.longest_timeout_seconds:
            raise ValueError(
                f"TIMEOUT_SECONDS ({self.timeout_seconds:g}) is over LONGEST_TIMEOUT_SECONDS "
                f"({self.longest_timeout_seconds}); lower the one or raise the other"
            )
        return self


class QueueSettings(_Group):
    """Limits of queued and running operations, over all processes that share the database."""

    waiting_per_cluster: int = Field(
        5000, ge=1, description="operations that may wait for one cluster; a further write is answered 429"
    )
    waiting_per_project: int = Field(10_000, ge=1, description="the same for one project")
    waiting_bytes_per_project: int = Field(
        256 * _MIB,
        ge=8 * _MIB,  # any order fits
        description="bytes of the sealed orders of one project that wait, of 8 KiB and more each; the same answer",
    )
    retry_seconds: int = Field(5, ge=1, description="Retry-After of that answer")
    running_per_cluster: int | None = Field(
        None,
        ge=1,
        description="operations that run at one API server at a time, however often it is registered, over all workers;"
        " unset: all but worker.reserved places of each worker that has more than three",
    )
    running_per_project: int | None = Field(None, ge=1, description="the same for one project")


#: More than a century; much more, and the database cannot say when it began.
_AGES_SECONDS = 4e9
#: Younger rows of the audit are deleted by nobody: the database refuses it.
_DAY = 24 * 3600.0


class RetentionSettings(_Group):
    """Retention times of old data."""

    operation_seconds: float = Field(
        30 * 24 * 3600.0,
        gt=0,
        le=_AGES_SECONDS,
        description="an operation that has ended, with its events; longer if a revision is there that it wrote",
    )
    audit_seconds: float = Field(
        365 * 24 * 3600.0, ge=_DAY, le=_AGES_SECONDS, description="a row of the table audit; a day at least"
    )
    audit_failed_seconds: float = Field(
        30 * 24 * 3600.0, ge=_DAY, le=_AGES_SECONDS, description="the same for failed log-ins and signatures"
    )
    sweep_seconds: float = Field(600.0, gt=0, description="between two times that a worker deletes what is older")
    key_seconds: float = Field(
        24 * 3600.0, gt=0, le=_AGES_SECONDS, description="an Idempotency-Key; what comes with it later is a new request"
    )


class AuditSettings(_Group):
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


class ObserverSettings(_Group):
    """Watching of clusters for the release index."""

    lease_seconds: float = Field(6.0, description="how long a cluster stays with an observer that does not renew")
    renew_seconds: float = Field(1.5, description="between two renewals, and between two looks at who shares the work")
    window_seconds: int = Field(
        20, ge=5, description="length of one watch request; a connection that died silently is noticed this late"
    )
    gather_seconds: float = Field(
        0.2, ge=0, description="what follows news within this time is taken with it; readers see changes this late"
    )
    retry_seconds: float = Field(10.0, description="longest pause before a cluster that fails is tried again")
    rows_per_cluster: int = Field(
        50_000,
        ge=1,
        description="release Secrets that the index takes of one cluster, those deleted in the last hour included",
    )
    values_bytes_per_cluster: int = Field(
        512 * _MIB, ge=_MIB, description="sealed values that the index takes of one cluster"
    )

    @model_validator(mode="after")
    def _lease_is_renewed_in_time(self) -> Self:
        if not 0 < self.renew_seconds < self.lease_seconds:
            raise ValueError(
                "RENEW_SECONDS must be above 0 and below LEASE_SECONDS; they are "
                f"{self.renew_seconds:g} and {self.lease_seconds:g}"
            )
        return self


class ClusterSettings(_Group):
    """Connections to clusters."""

    allow_loopback: bool = Field(
        False, description="accept kubeconfigs whose server is on this machine (the demo does)"
    )
    allowed: str = Field(
        "",
        description="networks, addresses and names that API servers may have, each with :PORT or for every port, with"
        " commas; unset: all but this machine, link-local and metadata addresses, which an entry of their own allows",
    )
    answer_seconds: float = Field(
        5.0, gt=0, description="for one answer, or for those of one look; a dead cluster costs no more"
    )
    request_seconds: float = Field(
        60.0, gt=0, description="for all reads of clusters in one API request together; a slow cluster costs no more"
    )
    request_bytes: int = Field(
        48 * _MIB, ge=_MIB, description="the same in bytes, as read and as unpacked; a hostile cluster costs no more"
    )
    held_bytes: int = Field(
        32 * _MIB,
        ge=_MIB,
        description="what one process holds at a time of one API server's answers; of all together, three times that",
    )
    lookups: int = Field(
        64, ge=2, description="names of API servers that one process looks up at a time; a dead name server holds one"
    )
    lookups_per_project: int = Field(4, ge=1, description="the same of one project; others keep the rest")
    lookup_seconds: float = Field(
        2.0, gt=0, description="how long a caller waits for a name, at most 60% of ANSWER_SECONDS"
    )
    known_addresses_seconds: float = Field(
        300.0,
        ge=0,
        description="how long the last addresses of a name serve while it cannot be looked up in time; they are judged"
        " each time",
    )
    per_project: int = Field(100, ge=1, description="clusters that a project may have; one more is answered 400")
    create_namespaces: bool = Field(False, description="create a missing namespace instead of answering 404")

    @model_validator(mode="after")
    def _one_project_leaves_places(self) -> Self:
        if self.lookups_per_project >= self.lookups:
            raise ValueError(
                f"LOOKUPS_PER_PROJECT ({self.lookups_per_project}) must be below LOOKUPS ({self.lookups}), or one "
                "project keeps all others from their clusters"
            )
        return self


class IdentitySettings(_Group):
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


class HookSettings(_Group):
    """Defaults for hooks if the request does not say ``include_hooks: true``; the vendor's default is no hooks."""

    on_update: bool = Field(False, description="upgrade and rollback run hooks, as helm does; no_hooks still wins")
    on_delete: bool = Field(False, description="uninstall runs hooks, as helm does")


class ReleaseSettings(_Group):
    """Presentation of releases, where the vendor leaves it undefined and installations differ."""

    mask_values: bool = Field(
        False, description="show ****** for values whose name says password, secret, token or key"
    )
    superseded_as_unknown: bool = Field(False, description="no SUPERSEDED, which the vendor's list of statuses lacks")
    hide_addons: bool = Field(False, description="leave releases named cceaddon-* out of lists")
    other_managers: Literal["refuse", "warn", "ignore"] = Field(
        "refuse",
        description="a change of a release that Flux, Argo CD or an operator manages: 403, an event, or nothing",
    )


class SupervisorSettings(_Group):
    """Detection of hanging processes by ``pilothouse serve``: API, observer and worker are polled every second."""

    silent_seconds: float = Field(
        15.0, ge=5, description="a part that answers nothing for so long is killed and started again"
    )
    start_seconds: float = Field(
        180.0, ge=30, description="the same before its first answer: a busy machine starts slowly"
    )


class PostgresSettings(_Group):
    """The embedded PostgreSQL; unused when database_url is set."""

    bin_dir: Path | None = Field(
        None, description="folder with initdb and postgres; else an installed server, else the wheel"
    )
    data_dir: Path | None = Field(None, description="default: <data_dir>/postgres")
    user: str | None = Field(None, description="account that runs it when we are root; default: postgres, else nobody")
    start_seconds: float = Field(60.0, description="how long a start or a crash recovery may take")


class HttpSettings(_Group):
    """Limits of connections and bodies."""

    connections: int = Field(
        4000, ge=10, description="open at a time; never more than the limit of open files leaves room for"
    )
    connections_per_address: int = Field(
        256, ge=1, description="open at a time from one IPv4 address or IPv6 /64; trusted proxies are not limited by it"
    )
    handshake_seconds: float = Field(10.0, gt=0, description="how long a TLS handshake may take in all")
    head_seconds: float = Field(10.0, gt=0, description="how long the head of a request may take to arrive")
    idle_seconds: int = Field(
        75, ge=1, description="how long a connection may wait for its next request; clients poll every few seconds"
    )
    write_seconds: float = Field(
        30.0, gt=0, description="in which a caller must take 64 KiB of its answer, or all that is left of it"
    )
    body_seconds: float = Field(60.0, gt=0, description="how long a body may take, and longer by its size, see below")
    body_bytes_per_second: float = Field(64 * 1024.0, gt=0, description="a body may take a second more for so many")
    waiting_bytes: int = Field(
        64 * _MIB,
        ge=_MIB,
        description="of memory, for heads, bodies and answers while their peer is waited for, of all connections",
    )
    unproven_bytes: int = Field(
        256 * _MIB,
        ge=0,
        description="of the disk, for bodies with an unverified signature; an address has a quarter",
    )
    unproven_bodies: int = Field(64, ge=0, description="and so many such bodies that are over memory_body_bytes")
    uploads_per_project: int = Field(
        16,
        ge=1,
        description="forms, and other bodies over memory_body_bytes, that an API process takes from a project at a time"
        " or works on; one more is answered 429. A client sends one after the other",
    )
    bytes_per_project: int = Field(
        128 * _MIB,
        ge=1,
        description="the same for the bytes of all its bodies: so much of the disk, and twice as much for forms",
    )


class TlsSettings(_Group):
    """The encrypted listener, on the address ``host``."""

    port: int = Field(8443, ge=0, le=65535, description="port of the HTTPS listener; 0 turns it off")
    certificate: Path | None = Field(
        None, description="PEM file, the server's certificate first; unset: issued by a local authority"
    )
    key: Path | None = Field(None, description="PEM file of the certificate's key, without a passphrase")
    names: str = Field(
        "", description="further DNS names and addresses of this server, with commas, for the local authority"
    )
    renew_days: int = Field(30, ge=1, le=300, description="a local certificate is renewed when this much is left")
    ciphers: str | None = Field(None, description="OpenSSL's list for TLS 1.2; unset: ECDHE with AES-GCM or ChaCha20")
    plain_http: bool = Field(
        False, description="serve plain HTTP on a host that is not loopback, too: only where something else encrypts"
    )


class Settings(BaseSettings):
    """All settings of one Pilothouse process."""

    model_config = SettingsConfigDict(env_prefix="PILOTHOUSE_", env_nested_delimiter="__", frozen=True, extra="ignore")

    data_dir: Path = Field(default_factory=default_data_dir, description="keys, socket, logs, embedded database")
    database_url: SecretStr | None = Field(None, description="postgresql://…; unset: the embedded server is used")
    host: str = Field(
        "127.0.0.1", description="address to listen on; plain HTTP stays on loopback unless tls.plain_http is set"
    )
    port: int = Field(8440, ge=0, le=65535, description="port of the plain HTTP listener; 0 turns it off")
    trusted_proxies: str = Field(
        "",
        description="addresses or networks (CIDR) of the proxies in front, with commas; what they say in"
        " X-Forwarded-For is believed, and nobody else",
    )
    region: str = Field("cn-north-4", description="region id; the project look-up by this name finds one project")
    time_zone: str = Field(
        "UTC", description="zone whose offset release times carry (IANA name, Asia/Shanghai: +08:00)"
    )
    body_bytes: int = Field(12 * _MIB, description="largest request body; the vendor's gateway takes 12 MB")
    memory_body_bytes: int = Field(1 * _MIB, description="a body over this size is kept in a temporary file")
    streams_per_user: int = Field(
        20,
        ge=1,
        description="event streams that a user may follow at a time, of one API process; each asks the database",
    )
    streams: int = Field(500, ge=1, description="the same of all users together")
    waits_per_user: int = Field(
        50,
        ge=1,
        description="requests of a user that wait at a time for a release (Prefer: wait), of one API process; one more"
        " is answered 429",
    )
    waits: int = Field(500, ge=1, description="the same of all users together")
    chart_quota: int = Field(200, description="chart versions per project; the vendor's sample says 200")
    chart_quota_bytes: int = Field(
        512 * _MIB, ge=1, description="archives of a project; replaced and deleted ones count until they are collected"
    )
    clock_skew_seconds: int = Field(900, description="how far X-Sdk-Date may be off; the vendor allows 15 min")
    clock_ahead_seconds: int = Field(
        120,
        ge=1,
        description="how far it may lie ahead, if that is less; a date ahead makes a captured request good for longer",
    )
    log_level: str = Field("info", description="debug, info, warning or error")
    log_format: str = Field("console", description="console or json")
    charts: ChartLimits = ChartLimits()
    engine: EngineSettings = EngineSettings()
    worker: WorkerSettings = WorkerSettings()
    queue: QueueSettings = QueueSettings()
    retention: RetentionSettings = RetentionSettings()
    audit: AuditSettings = AuditSettings()
    observer: ObserverSettings = ObserverSettings()
    cluster: ClusterSettings = ClusterSettings()
    identity: IdentitySettings = IdentitySettings()
    hooks: HookSettings = HookSettings()
    releases: ReleaseSettings = ReleaseSettings()
    supervisor: SupervisorSettings = SupervisorSettings()
    postgres: PostgresSettings = PostgresSettings()
    tls: TlsSettings = TlsSettings()
    http: HttpSettings = HttpSettings()

    @model_validator(mode="after")
    def _one_body_fits_in_its_project(self) -> Self:
        """Refuse a project limit that a single maximum-size request would exceed."""
        if self.http.bytes_per_project < self.body_bytes:
            raise ValueError(
                f"HTTP__BYTES_PER_PROJECT ({self.http.bytes_per_project}) is below BODY_BYTES ({self.body_bytes}), so"
                " that the largest body would never be taken; raise the one or lower the other"
            )
        return self

    @field_validator("trusted_proxies")
    @classmethod
    def _check_networks(cls, text: str) -> str:
        networks(text)
        return text

    @property
    def trusted_networks(self) -> tuple[Network, ...]:
        """The networks of ``trusted_proxies``."""
        return networks(self.trusted_proxies)

    @property
    def master_key(self) -> Path:
        """The file of the master keys."""
        return self.data_dir / "master.key"
