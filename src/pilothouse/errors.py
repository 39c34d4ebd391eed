"""The errors that a caller of Pilothouse can distinguish: one class each, independent of HTTP.

Every message is for the person who made the call: what was wrong, where, and what to do. The edges (``http``, ``api``,
``cli``) map a class to a status and a code; nothing below them knows either.
"""

from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

_Read = TypeVar("_Read")


class PilothouseError(Exception):
    """Base of all errors that are reported to a caller; ``str(error)`` is the message to show."""


class InvalidRequest(PilothouseError):
    """The request violates a rule; the message names the field."""


class InvalidArgument(InvalidRequest):
    """The request itself is wrong, whatever there is on the server: a parameter, header, form or member of its body."""


class SeveralWrong(InvalidArgument):
    """The request violates several rules, each with its own message."""

    def __init__(self, errors: Sequence[InvalidRequest]) -> None:
        super().__init__("\n".join(map(str, errors)))
        self.errors = errors


class Checks:
    """Check the parts of a request, and tell at the end all that is wrong at once."""

    def __init__(self) -> None:
        self._errors: list[InvalidRequest] = []

    def read(self, one: Callable[[], _Read]) -> _Read | None:
        """Return what is read; None for what is wrong, which is told at the end."""
        try:
            return one()
        except InvalidRequest as error:
            self.note(error)
        return None

    async def wait(self, one: Awaitable[_Read]) -> _Read | None:
        """Return the same of what takes time."""
        try:
            return await one
        except InvalidRequest as error:
            self.note(error)
        return None

    @property
    def found(self) -> bool:
        """True if something is wrong."""
        return bool(self._errors)

    def refuse(self, text: str) -> None:
        """Note what is wrong."""
        self._errors.append(InvalidArgument(text))

    def end(self) -> None:
        """Raise what was wrong."""
        if len(self._errors) == 1:
            raise self._errors[0]
        if self._errors:
            raise SeveralWrong(self._errors)

    def note(self, error: InvalidRequest) -> None:
        """Note an error, to be told at the end."""
        self._errors += error.errors if isinstance(error, SeveralWrong) else [error]


class UnsupportedContentType(InvalidRequest):
    """The route does not accept the body's media type."""


class BodyTooLarge(PilothouseError):
    """The request body exceeds the limit stated in the message."""


class NotAuthenticated(PilothouseError):
    """Missing or invalid credentials. The message is safe to show."""


class Forbidden(PilothouseError):
    """The caller is authenticated but may not do this."""


class NotPermitted(Forbidden):
    """The caller's roles do not allow this; ``action`` is the missing permission.

    ``place``: cluster, namespace and name of the release that it is about, if that is known.
    """

    def __init__(self, message: str, *, action: str) -> None:
        super().__init__(message)
        self.action = action
        self.place: tuple[str, str, str] | None = None


class NotFound(PilothouseError):
    """Not found, or owned by another project."""


class ClusterMissing(NotFound):
    """The project has no such cluster."""


class ReleaseMissing(NotFound):
    """The cluster has no release of that name in the namespace."""


class NeverInstalled(NotFound):
    """Of the release only a failed installation is known, which left nothing in the cluster."""


class ArchiveGone(NotFound):
    """The archive of a chart was deleted or replaced while a request for it ran."""


class AlreadyExists(PilothouseError):
    """The name is already in use."""


class KeyUsed(PilothouseError):
    """The Idempotency-Key was already used for a different request."""


class AlreadyEnded(PilothouseError):
    """The operation has ended, or is being ended in another way; there is nothing left to cancel."""


class ChartReplaced(PilothouseError):
    """The chart has another archive than the request wants."""


class PlanMoved(PilothouseError):
    """A plan can no longer be applied: it expired, was applied, or what it was made for has changed."""


class PlannedReleaseMoved(PlanMoved):
    """A plan can no longer be applied, because the release has another newest revision than it was made over."""


class ReleaseMoved(PilothouseError):
    """The release has another newest revision than the request is for."""


class AtWorkElsewhere(PilothouseError):
    """An operation is at work on the release through another registration of its API server."""


class QuotaExceeded(PilothouseError):
    """A quota of the project is exhausted."""


class Busy(PilothouseError):
    """The server is at capacity; retry later."""

    def __init__(self, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class ProviderUnavailable(Busy):
    """An identity provider cannot be reached, or what it answers is not to be used.

    The message is for anybody: it has no addresses and paths. ``cause`` is for the log.
    """

    def __init__(self, message: str, *, cause: str = "") -> None:
        super().__init__(message, retry_after_seconds=10)
        self.cause = cause


class InvalidChart(InvalidRequest):
    """The archive is not an acceptable chart; the message names the file or the limit."""


class InvalidKubeconfig(InvalidRequest):
    """The kubeconfig is refused; the message names the key."""


class ClusterUnavailable(PilothouseError):
    """The cluster did not answer, or not as a Kubernetes API server: unreachable, hanging, TLS, token.

    The message names the cause without quoting an unknown peer. ``detail`` is the cause if callers must not learn it,
    for the log.
    """

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class CallerGone(PilothouseError):
    """The caller closed its connection; reads made for it are abandoned."""

    def __init__(self) -> None:
        super().__init__("the caller closed the connection before the answer was complete")


class ClusterDenied(PilothouseError):
    """The cluster's API server refused the account of the registered kubeconfig."""


class KubeconfigUnreadable(ClusterDenied):
    """The stored kubeconfig of a cluster cannot be decrypted."""


class SourceUnavailable(PilothouseError):
    """A chart source did not answer, or not as one; or it refused its stored credentials.

    ``detail`` is as in ClusterUnavailable.
    """

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class SourceDenied(SourceUnavailable):
    """A chart source refuses the credentials that it was asked with, or needs some."""

    def __init__(self, message: str, *, asked: str = "") -> None:
        """``asked``: the address and the status, if it is not known here whether there were credentials."""
        super().__init__(message)
        self.asked = asked


class SourceUntrusted(SourceUnavailable):
    """A chart source shows a certificate that is not trusted."""


class InvalidSource(InvalidRequest):
    """A chart source answered with something that is not accepted: no index, another digest, a refused address."""


class EngineError(PilothouseError):
    """Base of errors between us and the Helm engine."""


class HelmError(EngineError):
    """Helm answered with an error; ``str(error)`` is Helm's own text, and it is final.

    ``kind`` is the engine's class of error (``HelmRenderError``, ``HelmReleaseError``, …).
    """

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class EngineCrashed(EngineError):
    """The engine child died during the call; ``stderr_tail`` is its last output."""

    def __init__(self, message: str, *, stderr_tail: str = "") -> None:
        super().__init__(message)
        self.stderr_tail = stderr_tail


class EngineTimeout(EngineError):
    """The deadline passed and the engine child was killed; its changes in the cluster may remain."""


class EngineUnavailable(EngineError):
    """No engine child can be started on this machine; the fault is the installation's, not the call's."""

    def __init__(self, message: str, *, stderr_tail: str = "") -> None:
        super().__init__(message)
        self.stderr_tail = stderr_tail


class UnreadableCommand(PilothouseError):
    """The request data of an operation cannot be read; the message says why."""


class DecryptionFailed(PilothouseError):
    """Sealed data cannot be decrypted: wrong master key, or damaged data."""


class DamagedRow(PilothouseError):
    """A row of the database is damaged; the message names it and says what to do."""


class DatabaseUnavailable(PilothouseError):
    """PostgreSQL cannot be reached or started; the message says what was tried and what to do."""


class TransactionConflict(DatabaseUnavailable):
    """Concurrent requests changed the same thing; this one was undone and can be sent again."""

    retry_after_seconds = 1


class CorruptRelease(PilothouseError):
    """A release Secret that cannot be decoded: damaged, malicious, or not written by Helm."""


class PartFailed(PilothouseError):
    """A process of the server did not become ready at the start; the message names it and how it ended."""


class InvalidSettings(PilothouseError):
    """A setting is wrong, or two contradict each other; the message names the variable."""


class InvalidCertificate(PilothouseError):
    """A TLS certificate or key cannot be used; the message names the file."""


class InvalidBackup(PilothouseError):
    """A backup cannot be made or restored: damaged, other keys, or a database in use."""
