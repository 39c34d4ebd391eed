"""The processes of one machine and their database server."""

from pathlib import Path

from pydantic import Field

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


class PostgresSettings(Group):
    """The embedded PostgreSQL; unused when database_url is set."""

    bin_dir: Path | None = Field(
        None, description="folder with initdb and postgres; else an installed server, else the wheel"
    )
    data_dir: Path | None = Field(None, description="default: <data_dir>/postgres")
    user: str | None = Field(None, description="account that runs it when we are root; default: postgres, else nobody")
    start_seconds: float = Field(60.0, description="time limit of a start or crash recovery")
