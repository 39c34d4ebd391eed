"""What every request to the engine is, whatever it is about."""

from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar, Generic, TypeVar

OutcomeT = TypeVar("OutcomeT")
#: The raw bytes of a request, or an open file that holds them, which is read from its beginning.
Body = bytes | BinaryIO


@dataclass(frozen=True, kw_only=True)
class Request(Generic[OutcomeT]):
    """One call of the engine; ``outcome_type`` is the answer of a successful call."""

    action: ClassVar[str]
    outcome_type: ClassVar[type[Any]]
