"""The few questions that Pilothouse asks a cluster's API server, each with a limit in time and size.

A peer is a stranger until it has answered as a Kubernetes API server: redirects are not followed, and its words are
quoted only from a Kubernetes Status. Answers come uncompressed: on a near network inflating costs more than reading.
"""

import asyncio
import base64
import json
import ssl
import tempfile
from collections import OrderedDict
from collections.abc import AsyncIterator
from dataclasses import dataclass
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlsplit

import httpx2
import orjson

from pilothouse.cluster.kubeconfig import check_address
from pilothouse.errors import ClusterDenied, ClusterUnavailable
from pilothouse.settings import ClusterSettings

_LARGEST_ANSWER = 64 * 1024 * 1024
_PAGE = 100
_KEPT_CLIENTS = 64
_RELEASE_TYPE = "helm.sh/release.v1"
_METADATA_ONLY = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
_DENIED = frozenset({401, 403})
_NOT_FOUND = 404

Secret = dict[str, Any]


@dataclass(frozen=True)
class ClusterVersion:
    """What the API server calls itself, for example ``v1.36.3``."""

    version: str


@dataclass(frozen=True)
class ReleaseLabels:
    """One revision of a release as its Secret's labels tell, without its payload."""

    revision: int
    status: str
    labels: dict[str, str]


class ClusterClient:
    """Asks one cluster with one account. Every method raises ClusterUnavailable or ClusterDenied."""

    def __init__(self, kubeconfig: str, settings: ClusterSettings) -> None:
        """``kubeconfig`` comes from ``sanitise``."""
        document = json.loads(kubeconfig)
        cluster, user = document["clusters"][0]["cluster"], document["users"][0]["user"]
        self._settings = settings
        self._server = str(cluster["server"]).rstrip("/")
        self._host = urlsplit(self._server).hostname or ""
        self._checked = False
        extensions = {"sni_hostname": cluster["tls-server-name"]} if "tls-server-name" in cluster else {}
        self._extensions = extensions
        self._http = httpx2.AsyncClient(
            verify=_tls(cluster, user),
            headers={"Accept": "application/json", "Accept-Encoding": "identity", **_identity_headers(user)},
            timeout=settings.answer_seconds,
            follow_redirects=False,
            trust_env=False,
            limits=httpx2.Limits(max_connections=32, max_keepalive_connections=8, keepalive_expiry=60),
        )

    async def probe(self) -> ClusterVersion:
        """The version, asked as the account: an address without rights is found out now and not later."""
        version = await self._ask("GET", "/version")
        if version is None or not isinstance(version.get("gitVersion"), str):
            raise ClusterUnavailable(f"{self._server} answered, but not as a Kubernetes API server")
        review = {"kind": "SelfSubjectReview", "apiVersion": "authentication.k8s.io/v1"}
        await self._ask("POST", "/apis/authentication.k8s.io/v1/selfsubjectreviews", body=review)
        return ClusterVersion(version=version["gitVersion"])

    async def namespace_exists(self, name: str) -> bool:
        """Whether the namespace is there and not on its way out."""
        found = await self._ask("GET", f"/api/v1/namespaces/{quote(name, safe='')}")
        return found is not None and found.get("status", {}).get("phase") != "Terminating"

    async def list_release_labels(self, *, namespace: str, name: str) -> list[ReleaseLabels]:
        """Every revision of one release, in no order; asks for metadata only."""
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/secrets"
        params = {"labelSelector": f"owner=helm,name={name}"}
        answer = await self._ask("GET", path, params=params, accept=_METADATA_ONLY)
        found = []
        for item in (answer or {}).get("items") or []:
            labels = item.get("metadata", {}).get("labels") or {}
            if str(labels.get("version", "")).isdigit():
                found.append(ReleaseLabels(int(labels["version"]), str(labels.get("status", "unknown")), labels))
        return found

    async def find_release_secret(self, *, namespace: str, name: str, revision: int) -> Secret | None:
        """The Secret of one revision."""
        secret = f"sh.helm.release.v1.{name}.v{revision}"
        return await self._ask(
            "GET", f"/api/v1/namespaces/{quote(namespace, safe='')}/secrets/{quote(secret, safe='')}"
        )

    async def list_release_secrets(self, *, namespace: str | None, name: str | None) -> AsyncIterator[Secret]:
        """Every Secret of Helm's, page by page, so that memory stays bounded by the caller's."""
        path = f"/api/v1/namespaces/{quote(namespace, safe='')}/secrets" if namespace else "/api/v1/secrets"
        selector = "owner=helm" + (f",name={name}" if name else "")
        params = {"labelSelector": selector, "fieldSelector": f"type={_RELEASE_TYPE}", "limit": str(_PAGE)}
        while True:
            page = await self._ask("GET", path, params=params) or {}
            for item in page.get("items") or []:
                yield item
            token = page.get("metadata", {}).get("continue")
            if not token:
                return
            params = {**params, "continue": token}

    async def replace_secret(self, secret: Secret) -> bool:
        """Writes the Secret back; False when it changed since it was read, or is immutable or gone."""
        metadata = secret["metadata"]
        path = f"/api/v1/namespaces/{quote(metadata['namespace'], safe='')}/secrets/{quote(metadata['name'], safe='')}"
        return await self._ask("PUT", path, body=secret, refused={404, 409, 422}) is not None

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def _ask(
        self,
        method: str,
        path: str,
        *,
        params: dict[str, str] | None = None,
        accept: str | None = None,
        body: Any = None,
        refused: set[int] | None = None,
    ) -> dict[str, Any] | None:
        """The answer's object; None for 404, or for a status in ``refused``."""
        headers = {"Accept": accept} if accept else {}
        content = None
        if body is not None:
            headers["Content-Type"] = "application/json"
            content = orjson.dumps(body)
        try:
            async with asyncio.timeout(self._settings.answer_seconds):
                await self._check_addresses()
                request = self._http.build_request(
                    method,
                    self._server + path,
                    params=params,
                    headers=headers,
                    content=content,
                    extensions=self._extensions or None,
                )
                response = await self._http.send(request, stream=True)
                try:
                    text = await self._read(response)
                finally:
                    await response.aclose()
        except TimeoutError as error:
            raise ClusterUnavailable(
                f"{self._server} did not answer within {self._settings.answer_seconds:g} s"
            ) from error
        except httpx2.TimeoutException as error:
            raise ClusterUnavailable(
                f"{self._server} did not answer within {self._settings.answer_seconds:g} s"
            ) from error
        except (httpx2.HTTPError, httpx2.InvalidURL, OSError) as error:
            raise ClusterUnavailable(f"{self._server} cannot be reached: {_cause(error)}") from error
        return self._judge(response.status_code, text, refused or {_NOT_FOUND})

    async def _check_addresses(self) -> None:
        """Once per client: what the host's name resolves to must be an address that an API server may have."""
        if self._checked:
            return
        loop = asyncio.get_running_loop()
        for _, _, _, _, address in await loop.getaddrinfo(self._host, None):
            check_address(str(address[0]), allow_loopback=self._settings.allow_loopback)
        self._checked = True

    async def _read(self, response: httpx2.Response) -> bytes:
        pieces, size = [], 0
        async for piece in response.aiter_raw():
            size += len(piece)
            if size > _LARGEST_ANSWER:
                raise ClusterUnavailable(f"{self._server} sent more than {_LARGEST_ANSWER >> 20} MiB in one answer")
            pieces.append(piece)
        return b"".join(pieces)

    def _judge(self, status: int, text: bytes, refused: set[int]) -> dict[str, Any] | None:
        try:
            answer = orjson.loads(text)
        except orjson.JSONDecodeError:
            answer = None
        if not isinstance(answer, dict):
            raise ClusterUnavailable(f"{self._server} answered {status}, but not as a Kubernetes API server")
        if status < 300:  # noqa: PLR2004  # the first status that is no success
            return answer
        said = str(answer.get("message", ""))[:500] if answer.get("kind") == "Status" else ""
        if status in _DENIED:
            raise ClusterDenied(f"{self._server} refuses the registered account: {said or status}")
        if status in refused and answer.get("kind") == "Status":
            return None
        raise ClusterUnavailable(f"{self._server} answered {status}{': ' + said if said else ''}")


class ClusterClients:
    """The clients of one process: one per cluster and credential, so that connections are kept."""

    def __init__(self, settings: ClusterSettings) -> None:
        self._settings = settings
        self._clients: OrderedDict[tuple[str, bytes], ClusterClient] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    def get(self, cluster_id: str, kubeconfig: str) -> ClusterClient:
        """The client for this cluster with exactly these credentials."""
        key = (cluster_id, sha256(kubeconfig.encode()).digest())
        client = self._clients.get(key)
        if client is None:
            client = self._clients[key] = ClusterClient(kubeconfig, self._settings)
        self._clients.move_to_end(key)
        while len(self._clients) > _KEPT_CLIENTS:
            _, old = self._clients.popitem(last=False)
            task = asyncio.get_running_loop().create_task(old.close())
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)
        return client

    async def close(self) -> None:
        """Closes every client."""
        clients, self._clients = list(self._clients.values()), OrderedDict()
        await asyncio.gather(*(client.close() for client in clients), *self._closing)


def _tls(cluster: dict[str, Any], user: dict[str, Any]) -> ssl.SSLContext:
    authority = cluster.get("certificate-authority-data")
    text = base64.b64decode(authority).decode("ascii", "replace") if authority else None
    context = ssl.create_default_context(cadata=text)
    if "client-certificate-data" in user:
        # The ssl module reads a client's certificate from files only; this one lives for the length of the call.
        with tempfile.NamedTemporaryFile(prefix="pilothouse-", suffix=".pem") as file:
            for key in ("client-certificate-data", "client-key-data"):
                file.write(base64.b64decode(user[key]) + b"\n")
            file.flush()
            context.load_cert_chain(file.name)
    return context


def _identity_headers(user: dict[str, Any]) -> dict[str, str]:
    headers: dict[str, str] = {}
    if "token" in user:
        headers["Authorization"] = f"Bearer {user['token']}"
    if "as" in user:
        headers["Impersonate-User"] = user["as"]
    if "as-uid" in user:
        headers["Impersonate-Uid"] = user["as-uid"]
    if "as-groups" in user:
        headers["Impersonate-Group"] = ",".join(user["as-groups"])
    return headers


def _cause(error: BaseException) -> str:
    """The innermost reason in the operating system's or TLS library's words."""
    while error.__cause__ is not None or error.__context__ is not None:
        error = error.__cause__ or error.__context__ or error
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
