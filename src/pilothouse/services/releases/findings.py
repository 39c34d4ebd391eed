"""What a preflight found, and how it is said."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace

from pilothouse.engine.inspection import Inspection, RenderedObject
from pilothouse.kubernetes.capabilities import ResourceAccess
from pilothouse.kubernetes.client import ObjectKind
from pilothouse.kubernetes.helm_secrets import LARGEST_PAYLOAD
from pilothouse.services.releases.helm_error_hints import SHRINK_HINT

#: What Kubernetes allows for the data of a Secret, and how far our packing may differ from Helm's.
_LARGEST_SECRET = 1024 * 1024
_PACKING_DIFFERS = 1.01
_NAMED = 5


@dataclass(frozen=True)
class Findings:
    """What speaks against a release: objects whose kind is not served, and rights that are missing.

    ``acts_as``: whose rights they are, if the cluster's account impersonates a user.
    """

    unserved: tuple[RenderedObject, ...]
    missing: tuple[tuple[ResourceAccess, tuple[RenderedObject, ...]], ...]
    served: tuple[tuple[RenderedObject, ObjectKind], ...]
    acts_as: str = ""

    def __bool__(self) -> bool:
        return bool(self.unserved or self.missing)

    @property
    def objects(self) -> tuple[RenderedObject, ...]:
        """The objects with findings."""
        return (*self.unserved, *(obj for _, objects in self.missing for obj in objects))

    def about(self, is_meant: Callable[[RenderedObject], bool]) -> "Findings":
        """Return only findings about matching objects, or about none in particular."""
        return replace(
            self,
            unserved=tuple(obj for obj in self.unserved if is_meant(obj)),
            missing=tuple(lack for lack in self.missing if not lack[1] or any(map(is_meant, lack[1]))),
        )


def describe_size(inspection: Inspection) -> str:
    """Return why the release is too large to be stored or read back; empty if it is not."""
    if inspection.packed_bytes > _LARGEST_SECRET * _PACKING_DIFFERS:
        largest = ", ".join(f"{part.name} {_kib(part.packed_bytes)}" for part in inspection.parts[:_NAMED])
        return (
            f"the release would take {_kib(inspection.packed_bytes)} in its Helm Secret, and "
            f"Kubernetes allows {_kib(_LARGEST_SECRET)}; the largest parts, compressed: {largest}; {SHRINK_HINT}"
        )
    if inspection.unpacked_bytes > LARGEST_PAYLOAD / _PACKING_DIFFERS:
        return (
            f"the release would unpack to {_kib(inspection.unpacked_bytes)} in its Helm Secret, and "
            f"at most {_kib(LARGEST_PAYLOAD)} are read of one; {SHRINK_HINT}"
        )
    return ""


def _kib(size: int) -> str:
    return f"{(size + 1023) // 1024} KiB"


def describe_findings(findings: Findings, *, later: frozenset[tuple[str, str]] = frozenset()) -> str:
    """Describe the findings; ``later``: kinds that the chart would define if it were newly installed."""
    texts = []
    if findings.unserved:
        names = _some(f"{obj.api_version} {named(obj)}" for obj in findings.unserved)
        why = "use a chart for this version of Kubernetes, or install what defines them first"
        if any((obj.api_version, obj.kind) in later for obj in findings.unserved):
            why = "the chart's crds/ defines some of them, which Helm installs with new releases only: apply it first"
        texts.append(f"the cluster does not serve {names}; {why}")
    if findings.missing:
        names = _some(dict.fromkeys(str(access) for access, _ in findings.missing))
        whose = f", acting as {findings.acts_as!r}" if findings.acts_as else ""
        texts.append(f"the cluster's account may not {names}{whose}; grant it that, or register another account")
    return "; ".join(texts)


def named(obj: RenderedObject) -> str:
    """Return the object as people call it."""
    return f"{obj.kind} {obj.name!r}" + (" (a hook)" if obj.hook else "")


def _some(names: Iterable[str]) -> str:
    every = list(names)
    more = f" and {len(every) - 2 * _NAMED} more" if len(every) > 2 * _NAMED else ""
    return ", ".join(every[: 2 * _NAMED]) + more
