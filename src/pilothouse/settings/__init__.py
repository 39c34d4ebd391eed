"""Every setting of the server, read once at start-up: no other module of a server process reads settings.

Commands that are clients read their own variables (``cli.connection``, ``cli.contexts``). What else is read of the
environment is set by others for every program: a socket of systemd, the folders of a user.

Variables are ``PILOTHOUSE_<FIELD>``, nested ones ``PILOTHOUSE_<GROUP>__<FIELD>``, for example
``PILOTHOUSE_PORT=8440`` and ``PILOTHOUSE_ENGINE__CHILDREN=4``. Durations are seconds, sizes bytes.
"""

import ipaddress
import os
import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Final, Literal, Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from pilothouse.settings.clusters import ClusterSettings, ObserverSettings
from pilothouse.settings.engine import ChartLimits, EngineSettings
from pilothouse.settings.group import MIB, Group
from pilothouse.settings.http import HttpSettings, RateSettings, TlsSettings
from pilothouse.settings.identity import AuditSettings, IdentitySettings
from pilothouse.settings.keystone import KeystoneSettings
from pilothouse.settings.oidc import OidcSettings
from pilothouse.settings.processes import MonitoringSettings, PostgresSettings, SupervisorSettings, TraceSettings
from pilothouse.settings.providers import ProviderSettings
from pilothouse.settings.releases import HookSettings, PlanSettings, ReleaseSettings
from pilothouse.settings.sources import SourceSettings
from pilothouse.settings.webhooks import WebhookSettings
from pilothouse.settings.worker import QueueSettings, RetentionSettings, WorkerSettings

__all__ = [
    "AuditSettings",
    "ChartLimits",
    "ClusterSettings",
    "EngineSettings",
    "HookSettings",
    "HttpSettings",
    "IdentitySettings",
    "KeystoneSettings",
    "MonitoringSettings",
    "Network",
    "ObserverSettings",
    "OidcSettings",
    "PlanSettings",
    "PostgresSettings",
    "ProviderSettings",
    "QueueSettings",
    "RateSettings",
    "ReleaseSettings",
    "RetentionSettings",
    "Settings",
    "SourceSettings",
    "SupervisorSettings",
    "TlsSettings",
    "TraceSettings",
    "WebhookSettings",
    "WorkerSettings",
    "default_data_dir",
    "networks",
    "unknown_variables",
    "variables",
]

_PREFIX: Final = "PILOTHOUSE_"
_OF_CLIENTS: Final = (
    *("PILOTHOUSE_URL", "PILOTHOUSE_TOKEN", "PILOTHOUSE_CA", "PILOTHOUSE_CONTEXT", "PILOTHOUSE_CONTEXTS"),
    *("PILOTHOUSE_PROJECT_ID", "PILOTHOUSE_CLUSTER", "PILOTHOUSE_NAMESPACE"),
)
_OF_A_SERVICE: Final = re.compile(r"_SERVICE_(HOST|PORT)(_|$)|_PORT_[0-9]+_(TCP|UDP)(_|$)")
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

    model_config = SettingsConfigDict(
        env_prefix=_PREFIX, env_nested_delimiter="__", frozen=True, extra="ignore", allow_inf_nan=False
    )

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
        description="addresses or networks (CIDR) of your proxies, comma-separated; X-Forwarded-For is "
        "trusted only from them",
    )
    root_path: str = Field(
        "",
        max_length=200,
        pattern=r"^(/[A-Za-z0-9._~-]+)*$",
        description="path below which a proxy serves the console, as `/pilothouse`; the proxy takes it off",
    )
    region: str = Field("cn-north-4", description="region id; a project lookup by this name finds one project")
    time_zone: str = Field("UTC", description="time zone of release times (IANA name, Asia/Shanghai: +08:00)")
    body_bytes: int = Field(12 * MIB, ge=1, description="maximum request body; the vendor's gateway accepts 12 MB")
    memory_body_bytes: int = Field(1 * MIB, ge=0, description="a body over this size is kept in a temporary file")
    streams_per_user: int = Field(
        20,
        ge=1,
        description="event streams of a user at a time per API process; each queries the database",
    )
    streams: int = Field(500, ge=1, description="the same for all users together")
    waits_per_user: int = Field(
        50,
        ge=1,
        description="requests of a user that wait for a release at a time (Prefer: wait) per API process; one more is "
        "answered 429",
    )
    waits: int = Field(500, ge=1, description="the same for all users together")
    chart_quota: int = Field(200, ge=1, description="chart versions per project; 200 in the vendor's sample")
    chart_quota_bytes: int = Field(
        512 * MIB, ge=1, description="archives of a project; replaced and deleted ones count until they are collected"
    )
    clock_skew_seconds: int = Field(900, ge=1, description="how far X-Sdk-Date may be off; the vendor allows 15 min")
    clock_ahead_seconds: int = Field(
        120,
        ge=1,
        description="how far in the future, if that is less; a future date keeps a captured request valid longer",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="the least that is logged")
    log_format: Literal["console", "json"] = Field("console", description="for people or for programs")
    charts: ChartLimits = ChartLimits()
    engine: EngineSettings = EngineSettings()
    worker: WorkerSettings = WorkerSettings()
    queue: QueueSettings = QueueSettings()
    retention: RetentionSettings = RetentionSettings()
    audit: AuditSettings = AuditSettings()
    observer: ObserverSettings = ObserverSettings()
    cluster: ClusterSettings = ClusterSettings()
    identity: IdentitySettings = IdentitySettings()
    oidc: OidcSettings = OidcSettings()
    keystone: KeystoneSettings = KeystoneSettings()
    hooks: HookSettings = HookSettings()
    releases: ReleaseSettings = ReleaseSettings()
    plans: PlanSettings = PlanSettings()
    webhooks: WebhookSettings = WebhookSettings()
    sources: SourceSettings = SourceSettings()
    supervisor: SupervisorSettings = SupervisorSettings()
    monitoring: MonitoringSettings = MonitoringSettings()
    traces: TraceSettings = TraceSettings()
    postgres: PostgresSettings = PostgresSettings()
    tls: TlsSettings = TlsSettings()
    http: HttpSettings = HttpSettings()
    rates: RateSettings = RateSettings()

    @model_validator(mode="after")
    def _one_body_fits_in_its_project(self) -> Self:
        """Refuse a project limit that a single maximum-size request would exceed."""
        if self.http.bytes_per_project < self.body_bytes:
            raise ValueError(
                f"HTTP__BYTES_PER_PROJECT ({self.http.bytes_per_project}) is below BODY_BYTES ({self.body_bytes}), so"
                " that the largest body would never be taken; raise the one or lower the other"
            )
        return self

    @model_validator(mode="after")
    def _one_user_leaves_places(self) -> Self:
        """Refuse a limit of one user that the limit of all users always meets first."""
        for name, of_user, of_all in (
            ("STREAMS", self.streams_per_user, self.streams),
            ("WAITS", self.waits_per_user, self.waits),
        ):
            if of_user > of_all:
                raise ValueError(f"{name}_PER_USER ({of_user}) must not be above {name} ({of_all})")
        return self

    @model_validator(mode="after")
    def _listeners_have_ports_of_their_own(self) -> Self:
        if self.port and self.port == self.tls.port:
            raise ValueError(f"PORT and TLS__PORT are both {self.port}; give each its own, or turn one off with 0")
        return self

    @model_validator(mode="after")
    def _monitoring_has_ports_of_its_own(self) -> Self:
        first = self.monitoring.port
        for name, port in (("PORT", self.port), ("TLS__PORT", self.tls.port)):
            if first and first <= port <= first + 2:
                raise ValueError(
                    f"{name} ({port}) is one of the three ports from MONITORING__PORT ({first}) on, which `pilothouse"
                    " serve` gives to its processes; choose others"
                )
        return self

    @field_validator("log_level", "log_format", mode="before")
    @classmethod
    def _fold_case(cls, text: object) -> object:
        return text.lower() if isinstance(text, str) else text

    @field_validator("time_zone")
    @classmethod
    def _check_zone(cls, name: str) -> str:
        try:
            ZoneInfo(name)
        except (ZoneInfoNotFoundError, OSError) as error:
            raise ValueError(
                f"{name!r} is not a time zone known on this machine; use an IANA name such as Europe/Berlin"
            ) from error
        return name

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


def variables() -> tuple[str, ...]:
    """Return the names of all settings."""
    names = []
    for name, field in Settings.model_fields.items():
        names.append(f"{_PREFIX}{name.upper()}")
        if isinstance(field.annotation, type) and issubclass(field.annotation, Group):
            names += [f"{names[-1]}__{name.upper()}" for name in field.annotation.model_fields]
    return tuple(names)


def unknown_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that look like settings and are none, each with the nearest setting, or with nothing.

    Those of the client commands are none of ours, nor is what Kubernetes sets for a Service of this name.
    """
    known = variables()
    unknown = [
        name
        for name, value in environment.items()
        if name.upper().startswith(_PREFIX)
        and name.upper() not in (*known, *_OF_CLIENTS)
        and not _OF_A_SERVICE.search(name)
        and not value.startswith(("tcp://", "udp://"))
    ]
    return {name: next(iter(get_close_matches(name.upper(), known, n=1, cutoff=0.8)), "") for name in unknown}
