"""HTTP client of the commands: requests with a token or signed with an access key, errors in the server's words."""

import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx2
import orjson

from pilothouse.auth.signing import SignedRequest, body_digest, sign
from pilothouse.errors import InvalidRequest, PilothouseError


class ServerRefused(PilothouseError):
    """The server answered with an error; the message repeats it."""


class Client:
    """Call one server, with a token if there is one, else with an access key."""

    def __init__(
        self,
        url: str,
        *,
        access_key: str,
        secret_key: str,
        token: str = "",
        ca: Path | None = None,
        timeout_seconds: float = 30.0,
    ) -> None:
        """``ca`` is the PEM file of the authority of an https server; None: the system's authorities."""
        if not url.startswith(("http://", "https://")):
            raise InvalidRequest(f"--url: {url!r} must start with http:// or https://")
        try:
            self._trust = ssl.create_default_context(cafile=ca)
        except (OSError, ValueError) as error:
            raise InvalidRequest(f"--ca: {ca} is not a readable PEM file of certificates: {error}") from error
        self._url = url.rstrip("/")
        self._access_key = access_key
        self._secret_key = secret_key
        self.token = token
        self._timeout = timeout_seconds

    def call(self, method: str, path: str, *, body: object = None, headers: dict[str, str] | None = None) -> Any:
        """Return the decoded JSON answer, None for an empty one; raise ServerRefused or PilothouseError."""
        content = b"" if body is None else orjson.dumps(body)
        return self._decode(self._send(method, path, content, headers=headers))

    def log_in(self, body: object) -> tuple[str, Any]:
        """Return a new token, and the server's description of it; needs no credentials but the body's."""
        response = self._send("POST", "/v3/auth/tokens?nocatalog=1", orjson.dumps(body), prove=False)
        return response.headers["x-subject-token"], self._decode(response)

    def send_chart(
        self, method: str, path: str, *, content: tuple[str, bytes], parameters: str
    ) -> tuple[Any, list[str]]:
        """Upload a form with file name, bytes and JSON text; return the decoded JSON answer and lint's warnings."""
        form = httpx2.Request(method, self._url, files={"content": content}, data={"parameters": parameters})
        response = self._send(method, path, form.read(), content_type=form.headers["content-type"])
        return self._decode(response), orjson.loads(response.headers.get("x-pilothouse-lint", "[]"))

    def download(self, path: str) -> tuple[bytes, str]:
        """Return the bytes of a file, and the Content-Disposition that names it."""
        response = self._send("GET", path, b"")
        return response.content, response.headers.get("content-disposition", "")

    def _send(
        self,
        method: str,
        path: str,
        content: bytes,
        *,
        content_type: str = "application/json",
        headers: dict[str, str] | None = None,
        prove: bool = True,
    ) -> httpx2.Response:
        """Return the answer, unless it is an error."""
        wanted = {"Content-Type": content_type, **(headers or {})}
        request = httpx2.Request(method, self._url + path, content=content, headers=wanted)
        if prove:
            request.headers.update(self._credentials(request, content))
        try:
            with httpx2.Client(timeout=self._timeout, trust_env=False, verify=self._trust) as http:
                response = http.send(request)
        except httpx2.HTTPError as error:
            raise PilothouseError(
                f"no Pilothouse server answers at {self._url}: {error}; is 'pilothouse serve' running, and --url right"
                f"{' (and --ca, the ca.pem of its data folder)' if self._url.startswith('https') else ''}?"
            ) from error
        if response.is_error:
            answer = self._decode(response)
            text = answer.get("errorMessage") if isinstance(answer, dict) else None
            raise ServerRefused(str(text or f"the server answered {response.status_code}"))
        return response

    def _decode(self, response: httpx2.Response) -> Any:
        try:
            return orjson.loads(response.content) if response.content else None
        except orjson.JSONDecodeError as error:
            raise PilothouseError(f"what answers at {self._url} is not Pilothouse; check --url") from error

    def _credentials(self, request: httpx2.Request, content: bytes) -> dict[str, str]:
        if self.token:
            return {"X-Auth-Token": self.token}
        if not self._access_key or not self._secret_key:
            raise InvalidRequest(
                "set CLOUD_SDK_AK and CLOUD_SDK_SK to the access key that the first start printed, or PILOTHOUSE_TOKEN "
                "to a token ('pilothouse token create')"
            )
        return self._signature(request, content)

    def _signature(self, request: httpx2.Request, content: bytes) -> dict[str, str]:
        signed = SignedRequest(
            method=request.method,
            raw_path=request.url.raw_path.split(b"?")[0],
            query_string=request.url.query,
            headers=[
                (b"host", request.headers["host"].encode()),
                (b"content-type", request.headers["content-type"].encode()),
            ],
            body_digest=body_digest(content),
            body_empty=not content,
        )
        return sign(signed, access_key=self._access_key, secret_key=self._secret_key, now=datetime.now(UTC))
