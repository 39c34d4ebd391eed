"""How many requests of an address, of a credential and of a user are served, counted by this process.

An address counts for every request, before anything else is looked at. A credential and a user count only for requests
that they have proved: an access key id is no secret, and naming it must not use up its owner's share. But one whose
share is used up is refused before anything is looked up, and before its body is read.
"""

import hashlib

from starlette.types import Scope

from pilothouse.auth.attempts import network_of
from pilothouse.auth.signing import named_access_key
from pilothouse.errors import Busy
from pilothouse.http import gateway_errors as errors
from pilothouse.http.gateway_errors import GatewayError
from pilothouse.http.middleware import head
from pilothouse.http.middleware.session import is_console, is_secure, session_text
from pilothouse.http.middleware.source import is_trusted
from pilothouse.metrics import THROTTLED
from pilothouse.settings import Network, RateSettings
from pilothouse.shares import Rate

_STATE = "credential"


class RequestRates:
    """Refuse what comes too often."""

    def __init__(self, settings: RateSettings, *, trusted: tuple[Network, ...], root: str = "") -> None:
        """``trusted`` are proxies, whose own address stands for many clients; ``root``: the path below one."""
        self._trusted, self._root = trusted, root

        def rate(per_second: float, whose: str) -> Rate:
            return Rate(per_second, burst=per_second * settings.burst_seconds, what="requests", whose=whose)

        self._addresses = rate(settings.per_address, "this address")
        self._keys = rate(settings.per_key, "this access key, token or session")
        self._users = rate(settings.per_user, "this user")

    def take_address(self, scope: Scope) -> None:
        """Count a request for its address; raise GatewayError if that has sent too many."""
        source = scope["state"]["source"]
        if source and not is_trusted(source, self._trusted):
            try:
                self._addresses.take(network_of(source))
            except Busy as error:
                raise _refusal("address", error) from None

    def check_credential(self, scope: Scope) -> None:
        """Raise GatewayError if what the request would be proved by has proved too many, or NotAuthenticated."""
        credential = scope["state"][_STATE] = self._credential(scope)
        try:
            self._keys.check(credential)
        except Busy as error:
            raise _refusal("key", error) from None

    def check_user(self, user_id: str) -> None:
        """Raise GatewayError if the user has proved too many."""
        try:
            self._users.check(user_id)
        except Busy as error:
            raise _refusal("user", error) from None

    def count(self, scope: Scope, user_id: str) -> None:
        """Count a request that was proved."""
        self._keys.count(scope["state"][_STATE])
        self._users.count(user_id)

    def _credential(self, scope: Scope) -> str:
        """Return what names the credential of a request: the access key, or a hash of what is secret itself."""
        if is_console(scope["path"]):
            return _hashed(session_text(scope, secure=is_secure(scope, self._trusted), root=self._root))
        token = head.token(scope)
        if token is not None:
            return _hashed(token)
        authorization = head.authorization(scope)
        return named_access_key(authorization) or _hashed(authorization)


def _hashed(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _refusal(limit: str, error: Busy) -> GatewayError:
    THROTTLED.labels(limit).inc()
    return GatewayError(errors.THROTTLED, str(error), headers={"Retry-After": str(error.retry_after_seconds)})
