"""Where charts are fetched from, and how much of it."""

from typing import Self

from pydantic import Field, model_validator

from pilothouse.settings.group import MIB, Group


class SourceSettings(Group):
    """Chart sources: OCI registries and HTTP repositories."""

    allow_loopback: bool = Field(False, description="accept sources on this machine")
    allowed: str = Field(
        "",
        description="allowed networks, addresses and names of sources and of where they redirect to, each optionally "
        "with :PORT, comma-separated; unset: all but this machine, link-local and metadata addresses, which need an "
        "entry",
    )
    allow_http: bool = Field(
        False,
        description="accept repositories with http://, whose charts and credentials anybody on the way can change",
    )
    per_project: int = Field(50, ge=1, description="maximum number of sources of a project")
    connect_seconds: float = Field(
        5.0, gt=0, description="time limit of one connection, and of each pause of an answer"
    )
    fetch_seconds: float = Field(60.0, gt=0, description="time limit of everything that one request fetches")
    fetches: int = Field(8, ge=2, description="sources that an API process fetches from at a time")
    index_bytes: int = Field(64 * MIB, ge=MIB, description="maximum size of an index; the largest public one has 15 MB")
    index_seconds: float = Field(60.0, gt=0, description="time limit of the child that reads an index")
    versions: int = Field(50_000, ge=1, description="chart versions of a source that are kept")
    archive_bytes: int = Field(20 * MIB, ge=MIB, description="maximum size of a chart that is pulled")
    bytes_per_project: int = Field(
        512 * MIB,
        ge=1,
        description="archives of pulled charts of a project; beyond, those that were pulled longest ago are dropped",
    )
    sync: bool = Field(
        True, description="synchronise sources by themselves, as often as each says; else only when asked to"
    )
    sync_seconds_least: int = Field(60, ge=1, description="the shortest interval that a source may have")

    @model_validator(mode="after")
    def _one_archive_fits_in_its_project(self) -> Self:
        """Refuse a limit of a project that one archive may exceed."""
        if self.archive_bytes > self.bytes_per_project:
            raise ValueError(
                f"ARCHIVE_BYTES ({self.archive_bytes}) must not be above BYTES_PER_PROJECT ({self.bytes_per_project})"
            )
        return self
