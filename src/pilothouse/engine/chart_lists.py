"""Requests about lists of charts: the index of a repository, the tags of a registry."""

from dataclasses import dataclass, field

from pilothouse.engine.request import Body, Request


@dataclass(frozen=True, kw_only=True)
class IndexOutcome:
    """The versions in the index of a chart repository: ``rows`` are gzipped JSON in base64, one version a line.

    ``skipped`` entries name no valid chart, or a version a second time.
    """

    rows: str = field(repr=False)
    count: int
    skipped: int


@dataclass(frozen=True, kw_only=True)
class OrderedVersions:
    """A key for each version, by whose bytes they are in order, empty for what is none; and the chosen one, or ''."""

    keys: tuple[str, ...]
    chosen: str


@dataclass(frozen=True, kw_only=True)
class ReadIndexRequest(Request[IndexOutcome]):
    """Read the index of a chart repository, as Helm does; an open file is streamed."""

    action = "read_index"
    outcome_type = IndexOutcome

    index: Body = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class OrderVersionsRequest(Request[OrderedVersions]):
    """Order versions, and choose the one that Helm takes for a version or range; '' is the newest stable one."""

    action = "order_versions"
    outcome_type = OrderedVersions

    versions: tuple[str, ...]
    wanted: str = ""
