"""What connections and bodies may cost, and the encrypted listener."""

from pathlib import Path

from pydantic import Field

from pilothouse.settings.group import MIB, Group


class HttpSettings(Group):
    """Limits of connections and bodies."""

    connections: int = Field(4000, ge=10, description="open connections; also bounded by the limit of open files")
    connections_per_address: int = Field(
        256, ge=1, description="open connections from one IPv4 address or IPv6 /64; does not apply to trusted proxies"
    )
    handshake_seconds: float = Field(10.0, gt=0, description="total time of a TLS handshake")
    head_seconds: float = Field(10.0, gt=0, description="total time for a request head to arrive")
    idle_seconds: int = Field(75, ge=1, description="idle time between requests; clients poll every few seconds")
    write_seconds: float = Field(
        30.0, gt=0, description="time in which a caller must read 64 KiB of its answer, or all that is left of it"
    )
    body_seconds: float = Field(
        60.0, gt=0, description="total time of a body, plus its size divided by the next setting"
    )
    body_bytes_per_second: float = Field(64 * 1024.0, gt=0, description="minimum speed of a body beyond that time")
    waiting_bytes: int = Field(
        64 * MIB,
        ge=MIB,
        description="memory of all connections for heads, bodies and answers while waiting for their peers",
    )
    unproven_bytes: int = Field(
        256 * MIB,
        ge=0,
        description="disk space for bodies whose signature is not yet verified; an address may use a quarter",
    )
    unproven_bodies: int = Field(64, ge=0, description="number of such bodies over memory_body_bytes")
    uploads_per_project: int = Field(
        16,
        ge=1,
        description="forms, and other bodies over memory_body_bytes, that an API process receives or processes at a "
        "time for one project; one more is answered 429",
    )
    bytes_per_project: int = Field(
        128 * MIB,
        ge=1,
        description="the same limit for the bytes of all its bodies: this much disk space, twice as much for forms",
    )
    contended_bytes_per_second: float = Field(
        4.0 * MIB,
        ge=0,
        description="bodies over 64 KiB of a project, in bytes per second and API process, while other projects send "
        "requests too; JSON counts four times. Four seconds' worth may come at once; what is more waits for up to "
        "15 s, or is answered 429. 0: no limit",
    )


class RateSettings(Group):
    """Requests per second that are answered; more are answered 429 before anything is done for them.

    Counted in memory, by each API process: a count in the database would cost a write per request, which is more than
    most requests cost. So several API processes together allow as many times as much.
    """

    per_address: float = Field(
        200.0,
        ge=0,
        description="requests per second from one IPv4 address or IPv6 /64, with whatever credentials; about half of "
        "what an API process can answer. Does not apply to trusted proxies. 0: no limit",
    )
    per_key: float = Field(
        100.0,
        ge=0,
        description="requests per second that one access key, token or session has proved; 0: no limit",
    )
    per_user: float = Field(
        100.0, ge=0, description="the same for a user with all its keys, tokens and sessions; 0: no limit"
    )
    burst_seconds: float = Field(
        10.0,
        gt=0,
        description="the requests of so many seconds may come at once, after as long a rest; clients come in bursts",
    )


class TlsSettings(Group):
    """The encrypted listener, on the address ``host``."""

    port: int = Field(8443, ge=0, le=65535, description="port of the HTTPS listener; 0 turns it off")
    certificate: Path | None = Field(
        None, description="PEM file, the server's certificate first; unset: issued by a local authority"
    )
    key: Path | None = Field(None, description="PEM file of the certificate's key, without a passphrase")
    names: str = Field(
        "", description="additional DNS names and addresses of this server, comma-separated, for the local authority"
    )
    renew_days: int = Field(30, ge=1, le=300, description="a local certificate is renewed this long before it expires")
    ciphers: str | None = Field(None, description="OpenSSL's list for TLS 1.2; unset: ECDHE with AES-GCM or ChaCha20")
    plain_http: bool = Field(
        False, description="serve plain HTTP on a host that is not loopback; only behind a proxy that terminates TLS"
    )
