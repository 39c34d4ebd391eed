"""How clusters are reached and watched."""

from typing import Self

from pydantic import Field, model_validator

from pilothouse.settings.group import MIB, Group


class ObserverSettings(Group):
    """Watching of clusters for the release index."""

    lease_seconds: float = Field(6.0, description="how long a cluster stays with an observer that does not renew")
    renew_seconds: float = Field(1.5, description="between two renewals, and between two looks at who shares the work")
    window_seconds: int = Field(
        20, ge=5, description="length of one watch request; a connection that died silently is noticed this late"
    )
    gather_seconds: float = Field(
        0.2, ge=0, description="what follows news within this time is taken with it; readers see changes this late"
    )
    retry_seconds: float = Field(10.0, gt=0, description="longest pause before a cluster that fails is tried again")
    rows_per_cluster: int = Field(
        50_000,
        ge=1,
        description="release Secrets that the index takes of one cluster, those deleted in the last hour included",
    )
    values_bytes_per_cluster: int = Field(
        512 * MIB, ge=MIB, description="sealed values that the index takes of one cluster"
    )

    @model_validator(mode="after")
    def _lease_is_renewed_in_time(self) -> Self:
        if not 0 < self.renew_seconds < self.lease_seconds:
            raise ValueError(
                "RENEW_SECONDS must be above 0 and below LEASE_SECONDS; they are "
                f"{self.renew_seconds:g} and {self.lease_seconds:g}"
            )
        return self


class ClusterSettings(Group):
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
        48 * MIB, ge=MIB, description="the same in bytes, as read and as unpacked; a hostile cluster costs no more"
    )
    held_bytes: int = Field(
        32 * MIB,
        ge=MIB,
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
    def _one_answer_fits_in_a_request(self) -> Self:
        """Refuse a deadline of one answer that the deadline of a whole request always ends first."""
        if self.answer_seconds > self.request_seconds:
            raise ValueError(
                f"ANSWER_SECONDS ({self.answer_seconds:g}) must not be above REQUEST_SECONDS ({self.request_seconds:g})"
            )
        return self

    @model_validator(mode="after")
    def _one_project_leaves_places(self) -> Self:
        if self.lookups_per_project >= self.lookups:
            raise ValueError(
                f"LOOKUPS_PER_PROJECT ({self.lookups_per_project}) must be below LOOKUPS ({self.lookups}), or one "
                "project keeps all others from their clusters"
            )
        return self
