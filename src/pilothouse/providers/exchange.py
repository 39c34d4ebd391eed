"""Requests to a provider, which is not trusted: vetted addresses, no redirects, answers bounded in time and bytes."""

import asyncio
import json
import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

import httpx2
import structlog

from pilothouse.errors import ClusterUnavailable, InvalidSettings, ProviderUnavailable
from pilothouse.kubernetes.addresses import Addresses, read_entries
from pilothouse.kubernetes.resolver import LookUp
from pilothouse.outgoing import VettedTransport
from pilothouse.settings import ProviderSettings

log = structlog.get_logger(__name__)


class Failures:
    """Convert errors of connections and documents to ProviderUnavailable.

    Whoever asks has proved nothing yet: the cause, which may name hosts, files and settings of ours, goes to the log.
    """

    def __init__(self, provider: str, seconds: float) -> None:
        self._provider = provider
        self._seconds = seconds

    def __enter__(self) -> None:
        return None

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        cause = ""
        if isinstance(error, ProviderUnavailable):
            if error.cause:
                return
            cause = str(error)
        elif isinstance(error, TimeoutError):
            cause = f"it did not answer within {self._seconds:g} s"
        elif isinstance(error, ClusterUnavailable | InvalidSettings):
            cause = str(error)  # an address that is refused, a name that is not found, or a file that is gone
        elif isinstance(error, httpx2.HTTPError | httpx2.InvalidURL | ssl.SSLError):
            cause = f"the connection failed ({type(error).__name__})"
        elif isinstance(error, ValueError | RecursionError):
            cause = "its answer is not JSON"
        if cause:
            log.warning("provider_unavailable", provider=self._provider, cause=cause)
            raise ProviderUnavailable(
                f"the identity provider {self._provider} cannot be used now", cause=cause
            ) from error


class Exchange:
    """Ask one provider, within the limits of the settings."""

    def __init__(self, shown: str, settings: ProviderSettings, look_up: LookUp, *, group: str) -> None:
        """``group``: the settings' prefix, such as PILOTHOUSE_OIDC__, for messages.

        Raises InvalidSettings for a list of addresses or certificates that cannot be read.
        """
        self._shown = shown
        self._settings = settings
        self._look_up = look_up
        self._tls = _trust(settings, group)
        self._addresses = Addresses(
            allow_loopback=settings.allow_loopback,
            entries=read_entries(settings.allowed, f"{group}ALLOWED"),
            setting=f"{group}ALLOWED",
            servers="identity provider",
        )

    def transport(self) -> VettedTransport:
        """Return a transport for one exchange with the provider."""
        return VettedTransport(self._addresses, self._look_up, tls=self._tls, largest=self._settings.answer_bytes)

    def failures(self) -> Failures:
        """Return a context in which what goes wrong between us and the provider is ProviderUnavailable."""
        return Failures(self._shown, self._settings.answer_seconds)

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str], body: dict[str, Any] | None = None
    ) -> httpx2.Response:
        """Return the answer, whatever its status, read to its end; raise what ``failures`` converts."""
        async with (
            asyncio.timeout(self._settings.answer_seconds),
            httpx2.AsyncClient(transport=self.transport(), trust_env=False, timeout=None) as http,
        ):
            return await http.request(method, url, headers={"accept": "application/json", **headers}, json=body)


def read_object(answer: httpx2.Response) -> dict[str, Any]:
    """Return the JSON object of an answer; raise ProviderUnavailable, or ValueError, which ``failures`` converts."""
    document = json.loads(answer.content)
    if not isinstance(document, dict):
        raise ProviderUnavailable(f"{place_of(str(answer.url))} did not answer with a JSON object")
    return document


def place_of(url: str) -> str:
    """Return host and path of an address, for messages."""
    parts = urlsplit(url)
    return f"{parts.hostname}{parts.path}"[:200]


def _trust(settings: ProviderSettings, group: str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=settings.ca)
    except (OSError, ssl.SSLError) as error:
        raise InvalidSettings(f"{group}CA={settings.ca} cannot be read: {error}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
