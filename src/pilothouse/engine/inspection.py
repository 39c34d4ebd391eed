"""What the engine tells of a chart that it rendered, or linted, without a cluster."""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RenderedObject:
    """One object that a chart renders; ``name`` is empty if the server generates it.

    ``hook``: its hook annotation, comma-separated events; empty for an object of the manifest. ``defines``: the kinds
    of a CRD, each as ``group/version`` and kind.
    """

    api_version: str
    kind: str
    namespace: str
    name: str
    hook: str = ""
    defines: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "defines", tuple((version, kind) for version, kind in self.defines))

    def runs_at(self, *events: str) -> bool:
        """Return True if it is a hook of one of the events."""
        return not {event.strip().lower() for event in self.hook.split(",")}.isdisjoint(events)


@dataclass(frozen=True, kw_only=True)
class ReleasePart:
    """One part of a stored release, and approximately how many bytes of the release's Secret it takes."""

    name: str
    packed_bytes: int


@dataclass(frozen=True, kw_only=True)
class Inspection:
    """The result of rendering a chart with the values, as far as possible without a cluster.

    ``crd_kinds`` are the kinds, as ``group/version`` and kind, in ``crds/``. ``packed_bytes`` is approximately the size
    of the release's Secret, with the largest ``parts`` of it, and ``unpacked_bytes`` approximately its unpacked size; 0
    if both are far below their limits.
    """

    objects: tuple[RenderedObject, ...]
    crd_kinds: tuple[tuple[str, str], ...]
    packed_bytes: int
    unpacked_bytes: int
    parts: tuple[ReleasePart, ...]

    def __post_init__(self) -> None:
        objects = (
            rendered if isinstance(rendered, RenderedObject) else RenderedObject(**rendered)
            for rendered in self.objects
        )
        parts = (part if isinstance(part, ReleasePart) else ReleasePart(**part) for part in self.parts)
        object.__setattr__(self, "objects", tuple(objects))
        object.__setattr__(self, "crd_kinds", tuple((version, kind) for version, kind in self.crd_kinds))
        object.__setattr__(self, "parts", tuple(parts))


@dataclass(frozen=True, kw_only=True)
class LintFinding:
    """One finding of Helm's lint about a file of the chart; ``severity`` is ``info``, ``warning`` or ``error``."""

    severity: str
    path: str
    message: str


@dataclass(frozen=True, kw_only=True)
class LintOutcome:
    """All findings of Helm's lint, in its order."""

    findings: tuple[LintFinding, ...]

    def __post_init__(self) -> None:
        plain = (finding if isinstance(finding, LintFinding) else LintFinding(**finding) for finding in self.findings)
        object.__setattr__(self, "findings", tuple(plain))
