"""The outcome of a release's tests: what became of each, and what their pods have said."""

from dataclasses import dataclass, field
from typing import Any

from pilothouse.engine.helm_errors import helm_error


@dataclass(frozen=True)
class PodOfTest:
    """A pod of a test, without its spec, and the ends of the logs of its containers, by their names."""

    owner: str
    pod: dict[str, Any] = field(repr=False)
    logs: dict[str, str] = field(repr=False)

    @property
    def key(self) -> tuple[str, str]:
        """The namespace and name of the pod."""
        return str(self.pod["metadata"]["namespace"]), str(self.pod["metadata"]["name"])


@dataclass(frozen=True, kw_only=True)
class RunTestsOutcome:
    """What became of the tests that began: ``tests`` have the fields that Helm stores of a hook.

    ``failure`` is empty if all passed; ``failure_kind`` is the kind that an error of the engine has.
    """

    failure: str
    failure_kind: str
    tests: list[dict[str, Any]] = field(repr=False)
    pods: tuple[PodOfTest, ...] = field(repr=False)

    def __post_init__(self) -> None:
        plain = (pod if isinstance(pod, PodOfTest) else PodOfTest(**pod) for pod in self.pods)
        object.__setattr__(self, "pods", tuple(plain))

    def raise_failure(self) -> None:
        """Raise HelmError if a test, or what belongs to it, failed; Helm's end of the tests says the same once more."""
        if self.failure:
            raise helm_error("\n".join(dict.fromkeys(self.failure.split("\n"))), kind=self.failure_kind)
