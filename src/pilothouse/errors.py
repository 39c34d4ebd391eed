"""The failures a caller of Pilothouse can tell apart: one class each, and no HTTP in here.

Every message is for the person who made the call: what was wrong, where, and what to do. The edges
(``http``, ``api``, ``cli``) map a class to a status and a code; nothing below them knows either.
"""


class PilothouseError(Exception):
    """Base of every failure that is reported to a caller; ``str(error)`` is the text to show."""


class InvalidRequest(PilothouseError):
    """Something the caller sent breaks a rule; the message names the field."""


class UnsupportedContentType(InvalidRequest):
    """The body is of a media type that the route does not read."""


class BodyTooLarge(PilothouseError):
    """The request's body is over the limit, which the message states."""


class NotAuthenticated(PilothouseError):
    """No credentials, or credentials that prove nothing. The message is safe to show."""


class Forbidden(PilothouseError):
    """The caller is known and may not do this."""


class NotPermitted(Forbidden):
    """The caller's roles do not allow this; ``action`` is what they lack."""

    def __init__(self, message: str, *, action: str) -> None:
        super().__init__(message)
        self.action = action


class NotFound(PilothouseError):
    """The thing does not exist for this caller; another project's things do not exist either."""


class AlreadyExists(PilothouseError):
    """The name is taken."""


class KeyUsed(PilothouseError):
    """The Idempotency-Key stands for another request."""


class AlreadyEnded(PilothouseError):
    """The operation has ended, or is being ended in another way; there is nothing left to cancel."""


class QuotaExceeded(PilothouseError):
    """A counted limit of the project is reached."""


class Busy(PilothouseError):
    """The server has no free place for this now; the same call may succeed later."""

    def __init__(self, message: str, *, retry_after_seconds: int = 1) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class InvalidChart(InvalidRequest):
    """The archive is not a chart that may be stored; the message names the file or the limit."""


class InvalidKubeconfig(InvalidRequest):
    """The kubeconfig is refused; the message names the key."""


class ClusterUnavailable(PilothouseError):
    """The cluster did not answer, or not as a Kubernetes API server: unreachable, hanging, TLS, token.

    The message names the cause without quoting what an unknown peer sent. ``detail`` is the cause where callers must
    not learn it, for the log.
    """

    def __init__(self, message: str, *, detail: str = "") -> None:
        super().__init__(message)
        self.detail = detail


class CallerGone(PilothouseError):
    """The caller closed its connection; what was read for it is given up."""

    def __init__(self) -> None:
        super().__init__("the caller closed the connection before the answer was complete")


class ClusterDenied(PilothouseError):
    """The cluster's API server answered, and refused the account of the registered kubeconfig."""


class EngineError(PilothouseError):
    """Base of what can go wrong between us and the Helm engine."""


class HelmError(EngineError):
    """Helm itself answered with an error; ``str(error)`` is Helm's own text, and it is final.

    ``kind`` is the engine's class of error (``HelmRenderError``, ``HelmReleaseError``, …).
    """

    def __init__(self, message: str, *, kind: str) -> None:
        super().__init__(message)
        self.kind = kind


class EngineCrashed(EngineError):
    """The engine child died during the call; ``stderr_tail`` holds its last words."""

    def __init__(self, message: str, *, stderr_tail: str = "") -> None:
        super().__init__(message)
        self.stderr_tail = stderr_tail


class EngineTimeout(EngineError):
    """The deadline passed and the engine child was killed; what it did in the cluster may stand."""


class EngineUnavailable(EngineError):
    """No engine child can be started on this machine; the fault is the installation's, not the call's."""

    def __init__(self, message: str, *, stderr_tail: str = "") -> None:
        super().__init__(message)
        self.stderr_tail = stderr_tail


class UnreadableCommand(PilothouseError):
    """What an operation was ordered to do cannot be read; the message says why."""


class DecryptionFailed(PilothouseError):
    """Sealed data does not open: the wrong master key, or damaged data."""


class DatabaseUnavailable(PilothouseError):
    """PostgreSQL cannot be reached or started; the message says what was tried and what to do."""


class CorruptRelease(PilothouseError):
    """A release Secret that cannot be read as one: damaged, hostile, or not written by Helm."""


class PartFailed(PilothouseError):
    """A part of the server did not become ready at the start; the message names it and how it ended."""


class InvalidSettings(PilothouseError):
    """A setting is wrong, or two contradict each other; the message names the variable."""


class InvalidCertificate(PilothouseError):
    """A TLS certificate or key cannot be used; the message names the file."""


class InvalidBackup(PilothouseError):
    """A backup cannot be made or put back: damaged, of another installation's key, or a database that is in use."""
