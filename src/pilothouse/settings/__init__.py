"""Every setting, read once at start-up; nothing else in the project reads the environment.

Variables are ``PILOTHOUSE_<FIELD>``, nested ones ``PILOTHOUSE_<GROUP>__<FIELD>``, for example
``PILOTHOUSE_PORT=8440`` and ``PILOTHOUSE_ENGINE__CHILDREN=4``. Durations are seconds, sizes bytes.
"""

import ipaddress
import os
from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pilothouse.settings.clusters import ClusterSettings, ObserverSettings
from pilothouse.settings.engine import ChartLimits, EngineSettings
from pilothouse.settings.group import MIB
from pilothouse.settings.http import HttpSettings, TlsSettings
from pilothouse.settings.identity import AuditSettings, IdentitySettings
from pilothouse.settings.processes import PostgresSettings, SupervisorSettings
from pilothouse.settings.releases import HookSettings, ReleaseSettings
from pilothouse.settings.worker import QueueSettings, RetentionSettings, WorkerSettings

__all__ = [
    "AuditSettings",
    "ChartLimits",
    "ClusterSettings",
    "EngineSettings",
    "HookSettings",
    "HttpSettings",
    "IdentitySettings",
    "Network",
    "ObserverSettings",
    "PostgresSettings",
    "QueueSettings",
    "ReleaseSettings",
    "RetentionSettings",
    "Settings",
    "SupervisorSettings",
    "TlsSettings",
    "WorkerSettings",
    "default_data_dir",
    "networks",
]

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


class Settings(BaseSettings):
    """All settings of one Pilothouse process."""

    model_config = SettingsConfigDict(env_prefix="PILOTHOUSE_", env_nested_delimiter="__", frozen=True, extra="ignore")

    data_dir: Path = Field(
        default_factory=default_data_dir,
        description="keys, socket, logs, embedded database; /var/lib/pilothouse for root, else"
        " ~/.local/share/pilothouse",
    )
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
    body_bytes: int = Field(12 * MIB, description="largest request body; the vendor's gateway takes 12 MB")
    memory_body_bytes: int = Field(1 * MIB, description="a body over this size is kept in a temporary file")
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
        512 * MIB, ge=1, description="archives of a project; replaced and deleted ones count until they are collected"
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
        """Return the networks of ``trusted_proxies``."""
        return networks(self.trusted_proxies)

    @property
    def master_key(self) -> Path:
        """Return the file of the master keys."""
        return self.data_dir / "master.key"
