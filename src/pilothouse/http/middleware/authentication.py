"""Authentication: nothing behind this layer runs for an unauthenticated request.

There are two steps, because a signature covers the body: what the headers alone disprove (no credentials, an unknown
access key, a stale date) is refused before a byte of the body is read; then the body is read, and the signature is
verified over all of it.

Source: CCE API reference, "Calling APIs: Authentication"; API Request Signing Guide.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Generic

from starlette.responses import HTMLResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from pilothouse.auth.schemes import SCHEMES
from pilothouse.auth.signing import (
    Signature,
    SignedRequest,
    check_headers,
    named_access_key,
    parse_authorization,
    verify,
)
from pilothouse.errors import Busy, Forbidden, NotAuthenticated, NotFound, ProviderUnavailable
from pilothouse.http import gateway_errors as errors
from pilothouse.http.connections import observer_of
from pilothouse.http.gateway_errors import GatewayError, answer_to
from pilothouse.http.json_bodies import FORM
from pilothouse.http.middleware import head
from pilothouse.http.middleware.authenticator import Authenticator, Caller, K
from pilothouse.http.middleware.body import (
    Body,
    ClientGoneError,
    Incoming,
    Pace,
    check_length,
    read_body,
    refuse_unread,
)
from pilothouse.http.middleware.disconnect import Disconnect, disconnect_of, remember
from pilothouse.http.middleware.rates import RequestRates
from pilothouse.http.middleware.session import CONSOLE, SessionFinder, find_caller, is_console, is_secure
from pilothouse.http.middleware.source import source_address
from pilothouse.http.spools import ProjectBodies, ProjectBody, SpoolBudget
from pilothouse.metrics import AUTHENTICATIONS
from pilothouse.settings import Settings
from pilothouse.shares import Throughput

#: Credentials that are older than this when the body has come are asked for again: it did not come with its head.
_FRESH_SECONDS: Final = 0.1
#: So many seconds of a project's throughput may be used at once.
_BURST_SECONDS: Final = 4.0
#: Bodies up to this size are not counted in a project's throughput.
_ORDINARY_BYTES: Final = 64 * 1024
#: A byte of JSON takes more processor time than one of an archive: it is parsed, checked and sealed, and opened and
#: masked again by the worker. See benchmarks/hostile.md.
_TIMES_AN_ARCHIVE: Final = 4
_UNPROVED: Final = {
    errors.NOT_AUTHENTICATED: "refused",
    errors.PROJECT_UNAVAILABLE: "project refused",
    errors.THROTTLED: "slowed",
    errors.PROVIDER_UNAVAILABLE: "provider unavailable",
}


@dataclass(frozen=True, slots=True)
class _Claim(Generic[K]):
    """The claims of the headers, with the key that must prove them."""

    signature: Signature
    known: K
    made_at: datetime
    asked_at: float

    @property
    def caller(self) -> Caller:
        """The owner of the key, who is not proved yet."""
        return self.known.caller


@dataclass(frozen=True, slots=True)
class _Proven:
    """The caller of a token, which needs no verification of the body."""

    caller: Caller
    asked_at: float


class AuthenticationMiddleware(Generic[K]):
    """Let pass what is public, has a token or is signed; the rest is answered here.

    A token takes precedence over a signature: the vendor's SDKs, made to send one, sign the request too or leave any
    text in ``Authorization``. An invalid token is refused even with a valid signature.

    For the application: ``scope['state']`` holds ``caller`` (not for public routes), ``body_digest`` (lower hex, by the
    hash of the signature's scheme, else SHA-256), ``body_size`` and ``source`` (the client's address), and ``receive``
    returns the body again. A public request may be as large as ``memory_body_bytes``: unauthenticated clients cannot
    fill the disk, and those whose signature is still to be verified share a small part of it. Without a session a form
    of the console is as small as ``FORM``.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        settings: Settings,
        authenticator: Authenticator[K],
        is_public: Callable[[str, str], bool],
        clock: Callable[[], datetime],
        largest_body: Callable[[str, str], int] | None = None,
        sessions: SessionFinder | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """``is_public`` and ``largest_body`` take method and decoded path; ``clock`` returns the time with its zone.

        ``largest_body`` returns how many bytes a route reads, if that is less than the setting ``body_bytes``. With
        ``sessions`` a path of the console is for those who have one; who has none passes there without a caller.
        """
        self._app = app
        self._settings = settings
        self._trusted = settings.trusted_networks
        self._authenticator = authenticator
        self._is_public = is_public
        self._sessions = sessions
        self._clock = clock
        self._largest_body = largest_body or (lambda _method, _path: settings.body_bytes)
        self._monotonic = monotonic
        self._rates = RequestRates(settings.rates, trusted=self._trusted, root=settings.root_path)
        self._pace = Pace(settings.http.body_seconds, settings.http.body_bytes_per_second)
        self._spools = SpoolBudget(settings.http.unproven_bytes, settings.http.unproven_bodies)
        self._bodies = ProjectBodies(
            uploads=settings.http.uploads_per_project, most_bytes=settings.http.bytes_per_project
        )
        rate = settings.http.contended_bytes_per_second
        self._throughput = Throughput(
            rate, burst=rate * _BURST_SECONDS, what="bytes in large requests", whose="this project"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request; everything that is not HTTP (the process's lifespan) passes through."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        scope.setdefault("state", {})["source"] = source_address(scope, self._trusted)
        incoming = Incoming(scope, receive)
        disconnect = Disconnect(incoming)
        body: Body | None = None
        claim: _Claim[K] | _Proven | None = None
        owned = ProjectBody(self._bodies)
        public = self._is_public(scope["method"], scope["path"])
        try:
            self._rates.take_address(scope)
            head.check_head(scope)
            now = self._clock()
            claim = None if public else await self._claim(scope, now)
            if claim is not None:
                self._rates.check_user(claim.caller.user_id)
            body = await self._read(scope, incoming, claim, owned)
            remember(scope, disconnect)
            await self._admit(scope, claim, body, owned, now)
            await self._app(scope, body.replay(disconnect.receive), send)
        except ClientGoneError:
            return
        except GatewayError as refusal:
            if refusal.code in _UNPROVED and not public:
                AUTHENTICATIONS.labels(_credentials(scope), _UNPROVED[refusal.code]).inc()
            owned.release()  # what is still coming of it is thrown away
            answer = _answer(refusal, scope, known=claim is not None, root=self._settings.root_path)
            if incoming.pending:
                await refuse_unread(answer, scope, incoming, send)
            else:
                await answer(scope, incoming, send)
        finally:
            disconnect.close()
            owned.release()
            if body is not None:
                body.close()

    async def _claim(self, scope: Scope, now: datetime) -> _Claim[K] | _Proven | None:
        """Check the headers; ``now`` is when they arrived. None: without a caller, which only the console takes."""
        asked_at = self._monotonic()
        with _refusals():
            self._rates.check_credential(scope)
        if self._sessions is not None and is_console(scope["path"]):
            person = await find_caller(
                scope, self._sessions, secure=is_secure(scope, self._trusted), root=self._settings.root_path
            )
            return _Proven(person, asked_at) if person is not None else None
        source = scope["state"]["source"]
        with _refusals():
            token = head.token(scope)
            if token is not None:
                caller = await self._authenticator.find_token(token, head.project_id(scope), source)
                observer_of(scope).prove()
                return _Proven(caller, asked_at)
            signature = await self._signature(scope, now)
            known = await self._authenticator.find_key(signature.access_key, head.project_id(scope), source)
        if known is None:
            raise GatewayError(errors.NOT_AUTHENTICATED, "Get secretKey failed,ak:***,err:ak not exist")
        return _Claim(signature, known, now, asked_at)

    async def _signature(self, scope: Scope, now: datetime) -> Signature:
        """Return the claimed signature; raise NotAuthenticated, and record it, if the headers alone refute it."""
        authorization = head.authorization(scope)
        access_key, reason = named_access_key(authorization), "malformed Authorization"
        try:
            signature = parse_authorization(authorization)
            access_key, reason = signature.access_key, "date out of range, or signed headers that are not there"
            check_headers(
                scope["headers"],
                signature,
                now=now,
                skew_seconds=self._settings.clock_skew_seconds,
                ahead_seconds=self._settings.clock_ahead_seconds,
            )
        except NotAuthenticated:
            if access_key:
                await self._authenticator.note_unusable(access_key, scope["state"]["source"], reason)
            raise
        return signature

    async def _read(
        self, scope: Scope, receive: Receive, claim: _Claim[K] | _Proven | None, owned: ProjectBody
    ) -> Body:
        settings = self._settings
        limit = min(settings.body_bytes, self._largest_body(scope["method"], scope["path"]))
        if claim is None:
            limit = min(limit, settings.memory_body_bytes, FORM.size if is_console(scope["path"]) else limit)
        check_length(scope, limit=limit)
        if claim is None:
            body = await read_body(
                receive,
                limit=limit,
                memory_bytes=settings.memory_body_bytes,
                pace=self._pace,
                on_memory=observer_of(scope).hold,
            )
        elif isinstance(claim, _Proven):
            body = await self._read_proven(scope, receive, claim, owned, limit=limit)
        else:
            body = await self._read_unproven(scope, receive, claim, limit=limit)
        scope["state"]["body_digest"] = body.digest
        scope["state"]["body_size"] = body.size
        return body

    async def _read_proven(
        self, scope: Scope, receive: Receive, claim: _Proven, owned: ProjectBody, *, limit: int
    ) -> Body:
        """Read a body that counts for its project from its first byte on."""
        owned.assign_to(_payer(claim.caller))
        if head.is_form(scope):
            owned.count_upload()

        def take(count: int) -> None:
            owned.count_upload()
            owned.take(count)

        return await read_body(
            receive, limit=limit, memory_bytes=self._settings.memory_body_bytes, pace=self._pace, on_spool=take
        )

    async def _read_unproven(self, scope: Scope, receive: Receive, claim: _Claim[K], *, limit: int) -> Body:
        """Read a body whose signature is still to be verified, with limits on disk space per address and in total.

        One that breaks off, or is refused half-way, counts as a wrong signature of its key; otherwise none ever would.
        """
        with self._spools.body(scope["state"]["source"]) as spooled:
            try:
                return await read_body(
                    receive,
                    limit=limit,
                    memory_bytes=self._settings.memory_body_bytes,
                    pace=self._pace,
                    new_digest=SCHEMES[claim.signature.scheme].new_digest,
                    on_spool=spooled.take,
                    on_memory=observer_of(scope).hold,
                )
            except (ClientGoneError, GatewayError):
                if spooled.taken:
                    with _refusals():
                        await self._authenticator.reject_key(claim.known)
                raise

    def _count(self, scope: Scope, caller: Caller, body: Body, owned: ProjectBody) -> None:
        """Count the body for the caller's project, as far as not done yet, until it is answered.

        Not before the caller is proved: otherwise knowing a key would be enough to use up the project's share.
        """
        owned.assign_to(_payer(caller))
        if head.is_form(scope) or body.size > self._settings.memory_body_bytes:
            owned.count_upload()
        owned.settle(body.size)

    async def _admit(
        self, scope: Scope, claim: _Claim[K] | _Proven | None, body: Body, owned: ProjectBody, now: datetime
    ) -> None:
        """Let the caller pass, if there is one, when the body is proved, counted, and within its project's share."""
        caller = await self._caller(scope, claim, body, now)
        if caller is not None:
            self._count(scope, caller, body, owned)
            self._rates.count(scope, caller.user_id)
            if await self._wait_turn(scope, caller, body):
                caller = await self._caller(scope, claim, body, now)
        if caller is not None:
            scope["state"]["caller"] = caller
            AUTHENTICATIONS.labels(_credentials(scope), "accepted").inc()
            observer_of(scope).prove()

    async def _wait_turn(self, scope: Scope, caller: Caller, body: Body) -> bool:
        """Wait until the body is within the share of the caller's project; return whether that took time.

        Who has gone meanwhile gets nothing done: what came after from the same person would be undone by it.
        """
        cost = body.size * (1 if head.is_form(scope) else _TIMES_AN_ARCHIVE) if body.size > _ORDINARY_BYTES else 0
        with _refusals():
            seconds = self._throughput.take(_payer(caller), cost)
        disconnect = disconnect_of(scope)
        if seconds and disconnect is not None and await disconnect.is_within(seconds):
            raise ClientGoneError
        return seconds > 0

    async def _caller(
        self, scope: Scope, claim: _Claim[K] | _Proven | None, body: Body, now: datetime
    ) -> Caller | None:
        """Return who is proved by head and body; what was taken away since the head came is gone."""
        if claim is not None and self._monotonic() - claim.asked_at > _FRESH_SECONDS:
            claim = await self._claim(scope, now)
        return await self._prove(scope, claim, body) if claim is not None else None

    async def _prove(self, scope: Scope, claim: _Claim[K] | _Proven, body: Body) -> Caller:
        """Verify the signature over everything, then select the project."""
        if isinstance(claim, _Proven):
            return claim.caller
        request = SignedRequest(
            method=scope["method"],
            raw_path=head.raw_path(scope),
            query_string=scope["query_string"],
            headers=scope["headers"],
            body_digest=body.digest,
            body_empty=body.size == 0,
        )
        with _refusals():
            try:
                verify(
                    request,
                    claim.signature,
                    secret_key=claim.known.secret_key,
                    # The time at which the headers came: a slow upload does not make its own signature stale.
                    now=claim.made_at,
                    skew_seconds=self._settings.clock_skew_seconds,
                )
            except NotAuthenticated:
                await self._authenticator.reject_key(claim.known)
                raise
            return await self._authenticator.select_project(claim.known, head.project_id(scope))


def _payer(caller: Caller) -> str:
    """Return for whom a body counts: the project; a user without one, who shares nothing with such users elsewhere."""
    return caller.project_id or caller.user_id


def _credentials(scope: Scope) -> str:
    """Return what the request would be proved by."""
    names = {name for name, _ in scope["headers"]}
    return "token" if b"x-auth-token" in names else "signature" if b"authorization" in names else "none"


def _answer(refusal: GatewayError, scope: Scope, *, known: bool, root: str) -> Response:
    """Return the answer of a refusal; a browser gets a page or a sentence where it may come to that."""
    answer = answer_to(scope, refusal.code, detail=refusal.detail, headers=refusal.headers, root=root)
    if is_console(scope["path"]):
        if refusal.code == errors.BODY_TOO_LARGE and not known:
            return RedirectResponse(f"{root}{CONSOLE}/login", status_code=303)  # with a session it may be more
        if refusal.code == errors.THROTTLED and not isinstance(answer, HTMLResponse):
            return PlainTextResponse(f"{refusal}\n", status_code=refusal.code.status, headers=refusal.headers)
    return answer


@contextmanager
def _refusals() -> Iterator[None]:
    """Convert errors of the authenticator and the signature rules to the gateway's errors."""
    try:
        yield
    except NotAuthenticated as error:
        raise GatewayError(errors.NOT_AUTHENTICATED, str(error)) from None
    except (Forbidden, NotFound) as error:
        raise GatewayError(errors.PROJECT_UNAVAILABLE, str(error)) from None
    except ProviderUnavailable as error:
        retry = {"Retry-After": str(error.retry_after_seconds)}
        raise GatewayError(errors.PROVIDER_UNAVAILABLE, str(error), headers=retry) from None
    except Busy as error:
        retry = {"Retry-After": str(error.retry_after_seconds)}
        raise GatewayError(errors.THROTTLED, str(error), headers=retry) from None
