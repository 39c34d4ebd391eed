"""The processes of one machine and their database server."""

from pathlib import Path
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, field_validator

from pilothouse.settings.group import Group


class SupervisorSettings(Group):
    """Detection of hanging processes by ``pilothouse serve``: API, observer and worker are polled every second."""

    silent_seconds: float = Field(
        15.0, ge=5, description="a process that has not answered for this long is killed and restarted"
    )
    start_seconds: float = Field(
        180.0, ge=30, description="the same before its first answer: a busy machine starts slowly"
    )


class MonitoringSettings(Group):
    """Metrics and probes of a process, without credentials: keep the port from strangers."""

    host: str = Field("127.0.0.1", description="address to listen on for /livez, /readyz and /metrics")
    port: int = Field(
        0,
        ge=0,
        le=65533,
        description="0: none; `pilothouse serve` gives the API this port, the observer the next one and the worker the"
        " one after that",
    )


class TraceSettings(Group):
    """Traces of API and worker, sent by OTLP over HTTP; they need the extra `pilothouse[otel]`."""

    endpoint: str = Field(
        "",
        description="where spans are sent, with the path, such as `http://collector:4318/v1/traces`; unset: no traces",
    )
    headers: SecretStr = Field(
        SecretStr(""), description="headers for it, such as `Authorization=Bearer%20…`, comma-separated"
    )
    ca: Path | None = Field(None, description="certificates (PEM) to trust for it, instead of the system's")
    ratio: float = Field(
        1.0,
        ge=0,
        le=1,
        description="share of the traces that begin here and are recorded; one that a client began is recorded if its "
        "`traceparent` says so",
    )
    service_name: str = Field("pilothouse", min_length=1, description="`service.name` of the spans")
    send_seconds: float = Field(5.0, gt=0, description="interval at which spans are sent")

    @field_validator("endpoint")
    @classmethod
    def _check_endpoint(cls, text: str) -> str:
        parts = urlsplit(text)
        if text and (parts.scheme not in {"http", "https"} or not parts.hostname or not parts.path.strip("/")):
            raise ValueError(f"{text!r} is not an address with a path, such as http://collector:4318/v1/traces")
        if parts.username or parts.password:
            raise ValueError("put credentials into TRACES__HEADERS, not into the address")
        return text


class PostgresSettings(Group):
    """The embedded PostgreSQL; unused when database_url is set."""

    bin_dir: Path | None = Field(
        None, description="folder with initdb and postgres; else an installed server, else the wheel"
    )
    data_dir: Path | None = Field(None, description="default: <data_dir>/postgres")
    user: str | None = Field(None, description="account that runs it when we are root; default: postgres, else nobody")
    start_seconds: float = Field(60.0, description="time limit of a start or crash recovery")
