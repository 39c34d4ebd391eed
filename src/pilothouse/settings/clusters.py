"""How clusters are reached and watched."""

from typing import Self

from pydantic import Field, model_validator

from pilothouse.settings.group import MIB, Group


class ObserverSettings(Group):
    """Watching of clusters for the release index."""

    lease_seconds: float = Field(6.0, description="how long an observer keeps a cluster without a renewal")
    renew_seconds: float = Field(1.5, description="interval of renewals, and of checks who shares the work")
    window_seconds: int = Field(
        20,
        ge=5,
        description="longest duration of one watch request, of which each lasts 80 to 100 %; a dead connection is "
        "detected within this time",
    )
    gather_seconds: float = Field(
        0.2, ge=0, description="batching window for watch events; adds this much latency to reads"
    )
    retry_seconds: float = Field(10.0, gt=0, description="maximum delay before a failing cluster is retried")
    rows_per_cluster: int = Field(
        50_000,
        ge=1,
        description="release Secrets of one cluster in the index, including those deleted in the last hour",
    )
    values_bytes_per_cluster: int = Field(
        512 * MIB, ge=MIB, description="maximum bytes of sealed values of one cluster in the index"
    )

    drift_requests_per_second: float = Field(
        0.0,
        ge=0,
        le=1000,
        description="requests to each cluster for looks at the drift of its releases, about two for each object; "
        "0: no such looks, whatever a cluster says",
    )
    drift_seconds: float = Field(
        3600.0,
        ge=0,
        description="age of a look at a release's drift from which on it is looked at again, for clusters that say "
        "nothing else (`pilothouse cluster update --drift-seconds`); 0: of those none is looked at",
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
        description="allowed networks, addresses and names of API servers, each optionally with :PORT, "
        "comma-separated; unset: all but this machine, link-local and metadata addresses, which need an entry",
    )
    answer_seconds: float = Field(5.0, gt=0, description="time limit of one answer, or of the answers of one read")
    request_seconds: float = Field(60.0, gt=0, description="time limit of all cluster reads of one API request")
    request_bytes: int = Field(
        48 * MIB, ge=MIB, description="byte limit of the same, both as received and decompressed"
    )
    held_bytes: int = Field(
        32 * MIB,
        ge=MIB,
        description="bytes of one API server's answers in memory per process; three times that for all servers",
    )
    lookups: int = Field(
        64, ge=2, description="concurrent DNS lookups per process; an unresponsive name server occupies one"
    )
    lookups_per_project: int = Field(4, ge=1, description="the same for one project")
    lookup_seconds: float = Field(
        2.0, gt=0, description="how long a caller waits for a lookup, at most 60% of ANSWER_SECONDS"
    )
    known_addresses_seconds: float = Field(
        300.0,
        ge=0,
        description="how long the last known addresses of a name are used while lookups are late; they are vetted "
        "each time",
    )
    per_project: int = Field(100, ge=1, description="maximum number of clusters of a project; one more is answered 400")
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
