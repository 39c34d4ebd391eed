"""HTTP client of the commands: requests with a token or signed with an access key, errors in the server's words.

It stands on the standard library's client, which loads in a third of the time that httpx2 takes: most commands ask one
question, and a person waits.
"""

import shlex
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPMessage, HTTPResponse, HTTPSConnection
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode, urlsplit

import orjson

from pilothouse import __version__
from pilothouse.cli.exits import NoServer, NotLoggedIn, UsageError
from pilothouse.cli.wording import reword
from pilothouse.errors import InvalidRequest, PilothouseError

if TYPE_CHECKING:
    from pilothouse.cli.contexts import Context

#: The most rows that one answer of a list holds.
_PAGE: Final = 500
TOKENS_PATH: Final = "/v3/auth/tokens"
_NO_SUCH_API: Final = "APIGW.0101"
#: Reasons that the native API gives (``http/errors.py``).
_OF_ARGUMENT: Final = "argument"
RELEASE_MOVED: Final = "release_moved"
CLUSTER_MISSING: Final = "cluster_not_found"
RELEASE_MISSING: Final = "release_not_found"
#: What ``auth/signing.py`` says of a signature that another secret key has made.
_WRONG_SIGNATURE: Final = "the signature does not belong to this request and access key"
#: A provenance lies beside an archive in vain.
PROVENANCE_UNREAD: Final = (
    "a provenance file (.prov) lies beside it and was not looked at, as the project trusts no key for uploads: "
    "'pilothouse trust set --keys FILE' sets them; then send it again"
)


class ServerRefused(PilothouseError):
    """The server answered with an error; the message repeats it."""

    def __init__(self, message: str, *, status: int, code: str, reason: str = "", called: str = "") -> None:
        """``reason``: what the native API tells besides the code; empty as well if an older server answers.

        ``called``: method and path of the request.
        """
        super().__init__(message)
        self.status = status
        self.code = code
        self.reason = reason
        self.called = called


class ArgumentRefused(ServerRefused, UsageError):
    """The server says that what was typed is wrong, whatever is there."""


class LogInRefused(ServerRefused, NotLoggedIn):
    """The server does not accept the password, or the token that was to be exchanged."""


@dataclass(frozen=True)
class Credentials:
    """A token, or else an access key; ``context`` is the context that they are of, ``origin`` what else says them."""

    token: str = ""
    access_key: str = ""
    secret_key: str = ""
    context: "Context | None" = None
    origin: str = "PILOTHOUSE_TOKEN"

    @classmethod
    def of(cls, context: "Context") -> "Credentials":
        """Return those of a context."""
        return cls(context.token, context.access_key, context.secret_key, context)


@dataclass(frozen=True)
class Answer:
    """A successful answer."""

    headers: HTTPMessage
    content: bytes

    @property
    def next(self) -> str:
        """Return the marker of the next part of a list; empty at the end."""
        return self.headers.get("X-Pilothouse-Marker", "")


class Client:
    """Call one server, with a token if there is one, else with an access key."""

    def __init__(
        self, url: str, *, credentials: Credentials, ca: str = "", project: str = "", timeout_seconds: float = 30.0
    ) -> None:
        """``ca`` is PEM text, the only authorities of an https server that are trusted; empty: the system's.

        ``project``: the name or id of another project than that of the credentials.
        """
        self.url = url.rstrip("/")
        self._base = urlsplit(self.url)
        try:
            usable = self._base.scheme in {"http", "https"} and self._base.hostname and self._base.port != 0
        except ValueError:  # no number, or too large
            usable = False
        if not usable:
            hint = ""
            if url.startswith("oci://"):
                hint = (
                    ". It is that of the Pilothouse server; the address of a chart source cannot be changed: remove "
                    "the source, and add it again"
                )
            raise UsageError(
                f"--url: {url!r} must start with http:// or https://, then a host and perhaps a port{hint}"
            )
        self.credentials = credentials
        self._ca = ca
        self._project = project
        self._project_id = ""
        self._timeout = timeout_seconds

    def call(self, method: str, path: str, *, body: object = None, headers: dict[str, str] | None = None) -> Any:
        """Return the decoded JSON answer, None for an empty one; raise ServerRefused or PilothouseError."""
        content = b"" if body is None else orjson.dumps(body)
        return self._decode(self._send(method, path, content, headers=headers).content)

    def ask(self, method: str, path: str, *, body: object = None) -> Any:
        """Return the decoded JSON answer to a request that needs no credentials; raise as ``call``."""
        content = b"" if body is None else orjson.dumps(body)
        return self._decode(self._send(method, path, content, prove=False).content)

    def log_in(self, body: object) -> tuple[str, Any]:
        """Return a new token, and the server's description of it; needs no credentials but the body's.

        Raises LogInRefused if the server does not accept those.
        """
        try:
            answer = self._send("POST", f"{TOKENS_PATH}?nocatalog=1", orjson.dumps(body), prove=False)
        except ServerRefused as error:
            if error.status != HTTPStatus.UNAUTHORIZED:
                raise
            raise LogInRefused(str(error), status=error.status, code=error.code) from error
        return answer.headers["x-subject-token"], self._decode(answer.content)

    def send_chart(
        self, method: str, path: str, *, content: tuple[str, bytes], parameters: str = "", provenance: str = ""
    ) -> tuple[Any, list[str]]:
        """Upload a form with file name, bytes and texts; return the decoded JSON answer, and what is to be told.

        That are lint's warnings, and what became of the provenance.
        """
        import httpx2

        fields = {"parameters": parameters, "provenance": provenance}
        texts = {name: text for name, text in fields.items() if text}
        form = httpx2.Request(method, self.url, files={"content": content}, data=texts)
        answer = self._send(method, path, form.read(), headers={"Content-Type": form.headers["content-type"]})
        warnings = orjson.loads(answer.headers.get("x-pilothouse-lint", "[]"))
        warnings = [*warnings, *_provenance_told(answer.headers)]
        return self._decode(answer.content), warnings

    def get(self, path: str, *, headers: dict[str, str] | None = None) -> Answer:
        """Return the answer to a GET, with its headers, as it is."""
        return self._send("GET", path, b"", headers=headers)

    def pages(self, path: str, query: dict[str, str]) -> Iterator[Answer]:
        """Yield the answers to GETs of a whole list, each with as many rows as one may hold."""
        answer = self.get(f"{path}?{urlencode({**query, 'limit': _PAGE})}")
        yield answer
        while answer.next:
            answer = self.get(f"{path}?{urlencode({**query, 'limit': _PAGE, 'marker': answer.next})}")
            yield answer

    def stream(self, path: str, *, headers: dict[str, str]) -> HTTPResponse:
        """Return the answer to a GET as it comes; an error of reading it is OSError or HTTPException."""
        try:
            response = self._open("GET", path, b"", headers=headers, prove=True)
            if response.status < HTTPStatus.BAD_REQUEST:
                return response
            answer = Answer(response.headers, response.read())
        except (OSError, HTTPException) as error:
            raise self._unreachable(error) from error
        raise self._refused(response.status, answer, f"GET {path.partition('?')[0]}", proven=True)

    def _send(
        self, method: str, path: str, content: bytes, *, headers: dict[str, str] | None = None, prove: bool = True
    ) -> Answer:
        """Return the answer, unless it is an error."""
        try:
            response = self._open(method, path, content, headers=headers, prove=prove)
            answer = Answer(response.headers, response.read())
        except (OSError, HTTPException) as error:
            raise self._unreachable(error) from error
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise self._refused(response.status, answer, f"{method} {path.partition('?')[0]}", proven=prove)
        return answer

    def _open(
        self, method: str, path: str, content: bytes, *, headers: dict[str, str] | None, prove: bool
    ) -> HTTPResponse:
        """Send the request on a connection of its own, and return the response, of which only the head was read."""
        target = self._base.path + path
        sent = {"Host": self._base.netloc.rpartition("@")[2], "Content-Type": "application/json", **(headers or {})}
        if prove:
            self._choose_project()
            sent.update(self._proof(method, target, sent, content))
        connection = self._connection()
        try:
            connection.request(method, target, content, sent)
        except OSError:  # a wrong certificate is a ValueError, too
            raise
        except ValueError:  # it repeats the value, which may be the token
            raise InvalidRequest(
                "the token, the access key or the URL holds a character that no request can; is there an end of line?"
            ) from None
        return connection.getresponse()

    def _connection(self) -> HTTPConnection:
        host = self._base.hostname or ""
        if self._base.scheme == "http":
            return HTTPConnection(host, self._base.port, timeout=self._timeout)
        import ssl

        try:
            trust = ssl.create_default_context(cadata=self._ca or None)
        except (OSError, ValueError) as error:
            raise UsageError(f"--ca: the file holds no readable certificates (PEM): {error}") from error
        return HTTPSConnection(host, self._base.port, timeout=self._timeout, context=trust)

    def _unreachable(self, error: Exception) -> NoServer:
        why = getattr(error, "verify_message", "") or getattr(error, "strerror", "") or str(error)
        if "CERTIFICATE_VERIFY_FAILED" in str(error):
            pinned = "the authority that --ca or the context names" if self._ca else "an authority of this system"
            return NoServer(
                f"the certificate of {self.url} is not from {pinned}: {why}; if that server is the right one, "
                f"type: {shlex.join(['pilothouse', 'login', self.url])} --ca FILE (the ca.pem of its data folder)"
            )
        return NoServer(
            f"no Pilothouse server answers at {self.url}: {why}; is 'pilothouse serve' running, and the URL right?"
        )

    def _refused(self, status: int, answer: Answer, called: str, *, proven: bool) -> PilothouseError:
        decoded = self._decode(answer.content)
        decoded = decoded if isinstance(decoded, dict) else {}
        text, code = (
            str(decoded.get("errorMessage") or f"the server answered {status}"),
            str(decoded.get("errorCode", "")),
        )
        if code == _NO_SUCH_API:
            text = (
                f"{self.url} has no {called}: that server is of another version than this command ({__version__}); "
                "install the same version as the server's, which its administrator sees in /api/v1/status"
            )
        if status == HTTPStatus.UNAUTHORIZED and proven:
            return NotLoggedIn(self._as_wrong_key(text) + self._advice())
        reason = str(decoded.get("reason", ""))
        kind = ArgumentRefused if reason == _OF_ARGUMENT else ServerRefused
        text = reword(text, about=called)
        if status >= HTTPStatus.INTERNAL_SERVER_ERROR and (request_id := answer.headers.get("X-Request-Id")):
            text += f" (in the server's log: request {request_id})"
        return kind(text, status=status, code=code, reason=reason, called=called)

    def _as_wrong_key(self, text: str) -> str:
        """Return the text, or what it means to a person whose secret key is wrong, for which it has a signature."""
        if self.credentials.token or _WRONG_SIGNATURE not in text:
            return text
        return (
            f"the secret key is not that of access key {self.credentials.access_key}; or a proxy before {self.url} "
            "changes the path or headers of requests"
        )

    def _advice(self) -> str:
        """Return what to type after the server did not accept the credentials."""
        context = self.credentials.context
        if context is None:
            origin = self.credentials.origin
            return f"; {origin} holds no valid token of this server" if self.credentials.token else ""
        ended = ""
        if context.expires_at and datetime.fromisoformat(context.expires_at) <= datetime.now(UTC):
            ended = f" expired at {context.expires_at}"
        typed = ["pilothouse", "login", context.url, "--context", context.name]
        if context.access_key:
            typed += ["--access-key", context.access_key]
        elif context.provider:
            typed += ["--device", "--provider", context.provider]
        elif context.user:
            typed += ["--user", context.user]
        return f"; the log-in of context {context.name!r}{ended or ' is not valid any more'}; type: {shlex.join(typed)}"

    def _decode(self, content: bytes) -> Any:
        try:
            return orjson.loads(content) if content else None
        except orjson.JSONDecodeError as error:
            raise NoServer(f"what answers at {self.url} is not Pilothouse; check the URL") from error

    def _choose_project(self) -> None:
        """Make the requests those of the other project, by another token or by a header."""
        project, self._project = self._project, ""
        if not project:
            return
        context = self.credentials.context
        if context is not None and context.project == project:
            self._project_id = context.project_id
        elif self.credentials.token:
            self.credentials = replace(self.credentials, token=self._exchanged(project))
        else:
            found = self.call("GET", "/v3/auth/projects")["projects"]
            chosen = [own for own in found if project in {own["id"], own["name"]}]
            if not chosen:
                known = ", ".join(sorted(own["name"] for own in found)) or "none"
                raise InvalidRequest(f"--project: {project!r} is none of your projects ({known})")
            self._project_id = str(chosen[0]["id"])

    def _exchanged(self, project: str) -> str:
        """Return a token for the project, once per log-in of a context."""
        context = self.credentials.context
        if context is not None and (kept := context.project_tokens.get(project)):
            return kept
        scope = {"project": {"name": project}}
        try:
            token, _ = self.log_in({"auth": {"identity": self._identity(), "scope": scope}})
        except ServerRefused:
            token, _ = self.log_in({"auth": {"identity": self._identity(), "scope": {"project": {"id": project}}}})
        if context is not None:
            from pilothouse.cli.contexts import edited_contexts

            # where nothing can be written, it is exchanged again next time
            with suppress(InvalidRequest), edited_contexts() as contexts:
                stored = contexts.find(context.name)
                if stored is not None and stored.token == context.token:
                    stored.project_tokens[project] = token
        return token

    def _identity(self) -> dict[str, Any]:
        return {"methods": ["token"], "token": {"id": self.credentials.token}}

    def _proof(self, method: str, target: str, headers: dict[str, str], content: bytes) -> dict[str, str]:
        """Return the headers that prove who asks."""
        credentials = self.credentials
        if credentials.token:
            return {"X-Auth-Token": credentials.token}
        if bool(credentials.access_key) != bool(credentials.secret_key):
            raise NotLoggedIn(
                "the access key lacks its secret key: set CLOUD_SDK_SK, too"
                if credentials.access_key
                else "the secret key lacks its access key: set CLOUD_SDK_AK, too"
            )
        if not credentials.access_key:
            raise NotLoggedIn(
                "you are not logged in to a server: type 'pilothouse login URL'; or set PILOTHOUSE_URL, and "
                "PILOTHOUSE_TOKEN to a token ('pilothouse token create') or CLOUD_SDK_AK and CLOUD_SDK_SK to an access "
                "key, for example the one that the server's first start printed"
            )
        from pilothouse.auth.signing import SignedRequest, body_digest, sign

        path, _, query = target.partition("?")
        signed = SignedRequest(
            method=method,
            raw_path=path.encode(),
            query_string=query.encode(),
            headers=[(name.lower().encode(), headers[name].encode()) for name in ("Host", "Content-Type")],
            body_digest=body_digest(content),
            body_empty=not content,
        )
        chosen = {"X-Project-Id": self._project_id} if self._project_id else {}
        keys = {"access_key": credentials.access_key, "secret_key": credentials.secret_key}
        return {**sign(signed, **keys, now=datetime.now(UTC)), **chosen}


def _provenance_told(headers: HTTPMessage) -> Iterator[str]:
    """Return what became of the provenance of an upload."""
    had = "the project had this archive already"
    if signer := headers.get("x-pilothouse-provenance-added", ""):
        yield f"{had}: its provenance was added, signed by the key {signer}"
    elif signer := headers.get("x-pilothouse-provenance-known", ""):
        yield f"{had}, and its provenance by the key {signer}: nothing was changed"
    elif headers.get("x-pilothouse-provenance-unread", ""):
        yield PROVENANCE_UNREAD
