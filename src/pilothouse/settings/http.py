"""What connections and bodies may cost, and the encrypted listener."""

from pathlib import Path

from pydantic import Field

from pilothouse.settings.group import MIB, Group


class HttpSettings(Group):
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
        64 * MIB,
        ge=MIB,
        description="of memory, for heads, bodies and answers while their peer is waited for, of all connections",
    )
    unproven_bytes: int = Field(
        256 * MIB,
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
        128 * MIB,
        ge=1,
        description="the same for the bytes of all its bodies: so much of the disk, and twice as much for forms",
    )


class TlsSettings(Group):
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
