"""Charts in an OCI registry: tokens, tags by page, manifests and layers, each checked by its digest.

Source: OCI distribution specification 1.1; Docker's token authentication; Helm's media types of charts.
"""

import asyncio
import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, BinaryIO, Final
from urllib.parse import quote, urlencode, urlsplit

import orjson

from pilothouse.chart_sources.fetch import Answer, Fetch, authority, joined, refuse_error, shown, spool
from pilothouse.errors import InvalidSource, NotFound, SourceUnavailable
from pilothouse.settings import SourceSettings

MANIFEST: Final = "application/vnd.oci.image.manifest.v1+json"
INDEX: Final = "application/vnd.oci.image.index.v1+json"
CONFIG: Final = "application/vnd.cncf.helm.config.v1+json"
CHART: Final = "application/vnd.cncf.helm.chart.content.v1.tar+gzip"
PROVENANCE: Final = "application/vnd.cncf.helm.chart.provenance.v1.prov"
_MANIFEST_BYTES: Final = 4 * 1024 * 1024
_ERROR_BYTES: Final = 64 * 1024
_PAGE: Final = 1000
_MOST_PAGES: Final = 100
_MOST_PAGES_OF_REFERRERS: Final = 10
_MOST_REFERRERS: Final = 1000
#: What registries answer that have no API of referrers.
_NO_REFERRERS: Final = frozenset({400, 404, 405, 406, 501})
_UNAUTHORIZED: Final = 401
_CHALLENGE: Final = re.compile(r'([a-zA-Z_]+)="([^"]*)"')
_DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")
CHART_NAME: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_NEXT: Final = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')


@dataclass(frozen=True)
class Layer:
    """A part of a manifest."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Artifact:
    """A manifest of anything: its layers, and what is noted beside them."""

    layers: list[Layer]
    annotations: Mapping[str, str]


@dataclass(frozen=True)
class Referrer:
    """What a registry says of an artifact that belongs to a manifest; the type may be that of its config, or empty."""

    digest: str
    artifact_type: str
    annotations: Mapping[str, str] = field(repr=False)


@dataclass(frozen=True)
class Manifest:
    """The manifest of a chart with the digest of its own text."""

    digest: str
    chart: Layer
    provenance: Layer | None


class NoChart(InvalidSource):
    """What lies under a tag is something else than a chart; ``digest``: that of its manifest."""

    def __init__(self, message: str, *, digest: str) -> None:
        super().__init__(message)
        self.digest = digest


def registry_url(url: str) -> str:
    """Return the https:// URL of a reference that begins with oci://."""
    return f"https://{url.removeprefix('oci://')}"


def refuse_more(versions: int, settings: SourceSettings, *, where: str) -> None:
    """Raise InvalidSource if that is more versions than a source may have."""
    if versions > settings.versions:
        raise InvalidSource(
            f"{where} has {versions} versions or more; the limit of a source is {settings.versions} "
            "(PILOTHOUSE_SOURCES__VERSIONS)"
        )


def tag_of(version: str) -> str:
    """Return the tag of a chart's version: tags have no plus sign."""
    return version.replace("+", "_")


class Repository:
    """The charts of one name in a registry, such as ``https://registry.example.com/team`` and ``nginx``."""

    def __init__(self, fetch: Fetch, base: str, name: str, *, actions: str = "pull") -> None:
        parts = urlsplit(base)
        self._fetch = fetch
        self._root = f"{parts.scheme}://{parts.netloc}/v2/"
        self.path = "/".join(part for part in (parts.path.strip("/"), name) if part)
        self._actions = actions
        self._authorization = ""

    async def ping(self) -> None:
        """Return if the registry answers as one, and takes the credentials."""
        answer = await self._get(self._root, most_bytes=_MANIFEST_BYTES, scope="registry")
        refuse_error(answer, "an OCI registry")

    async def list_versions(self) -> list[str] | None:
        """Return the tags as versions of charts; None if the registry has no such repository."""
        url: str | None = self.url_of(f"tags/list?n={_PAGE}")
        versions: list[str] = []
        for _ in range(_MOST_PAGES):
            answer = await self._get(url, most_bytes=_MANIFEST_BYTES)
            if answer.status == HTTPStatus.NOT_FOUND:
                return versions or None
            refuse_error(answer, f"the list of tags of {self.path}")
            versions += [tag.replace("_", "+") for tag in await asyncio.to_thread(_texts, answer, "tags")]
            url = self._next(answer)
            refuse_more(len(versions), self._fetch.settings, where=f"{shown(self._root)} {self.path}")
            if url is None:
                break
        return versions

    async def list_names(self, *, most: int) -> list[str]:
        """Return names of charts below the path, if the registry tells; this repository must have no name.

        No page is asked for after one that makes them that many.
        """
        prefix, names = f"{self.path}/" if self.path else "", list[str]()
        url: str | None = f"{self._root}_catalog?n={_PAGE}"
        for _ in range(_MOST_PAGES):
            answer = await self._get(url, most_bytes=_MANIFEST_BYTES, scope="registry:catalog:*")
            if answer.status != HTTPStatus.OK:  # many registries have no catalogue, or not for everybody
                break
            names += (await asyncio.to_thread(_chart_names, answer, prefix))[: most - len(names)]
            url = self._next(answer)
            if url is None or len(names) >= most:
                break
        return names

    async def find_manifest(self, reference: str) -> Manifest:
        """Return the manifest of a tag or digest; raise NoChart if it is not that of a chart."""
        answer = await self._ask_manifest(reference)
        if answer.status == HTTPStatus.NOT_FOUND:
            raise NotFound(f"{shown(self._root)} has no chart {self.path} {reference.replace('_', '+')}")
        refuse_error(answer, f"{self.path}:{reference}")
        url, digest = answer.url, f"sha256:{hashlib.sha256(answer.body).hexdigest()}"
        stated = reference if _DIGEST.fullmatch(reference) else answer.headers.get("docker-content-digest", digest)
        if stated != digest:
            raise InvalidSource(f"{shown(url)}: the manifest has the digest {digest}, and not the stated one")
        try:
            return Manifest(digest, *self._judge(answer, url))
        except InvalidSource as error:
            raise NoChart(str(error), digest=digest) from error

    async def find_digest(self, reference: str) -> str:
        """Return the digest that the registry says of a tag's manifest, without reading it; empty if it does not."""
        answer = await self.send("HEAD", self.url_of(f"manifests/{quote(reference)}"), headers={"accept": MANIFEST})
        return answer.headers.get("docker-content-digest", "") if answer.status == HTTPStatus.OK else ""

    async def find_artifact(self, reference: str) -> Artifact | None:
        """Return any manifest of an image or artifact; None if there is none."""
        answer = await self._ask_manifest(reference)
        if answer.status == HTTPStatus.NOT_FOUND:
            return None
        refuse_error(answer, f"{self.path}:{reference}")
        document = _json(answer)
        layers = document.get("layers")
        found = [_layer(layer, answer.url) for layer in layers] if isinstance(layers, list) else []
        return Artifact(found, _annotations(document))

    async def list_referrers(self, digest: str) -> list[Referrer]:
        """Return what belongs to the manifest: by the API of referrers, else what the tag lists that stands for it."""
        found: list[Referrer] = []
        url: str | None = self.url_of(f"referrers/{digest}")
        for page in range(_MOST_PAGES_OF_REFERRERS):
            answer = await self._get(url, headers={"accept": INDEX}, most_bytes=_MANIFEST_BYTES)
            stated = answer.headers.get("content-type", "").partition(";")[0].strip()
            if page == 0 and (answer.status in _NO_REFERRERS or (answer.status == HTTPStatus.OK and stated != INDEX)):
                return await self._read_referrers_tag(digest)
            refuse_error(answer, f"the list of what belongs to {digest}")
            found += await asyncio.to_thread(_referrers, answer)
            if len(found) > _MOST_REFERRERS:
                raise InvalidSource(f"{shown(answer.url)} lists more than {_MOST_REFERRERS} things, the limit")
            url = self._next(answer)
            if url is None:
                break
        return found

    async def _read_referrers_tag(self, digest: str) -> list[Referrer]:
        answer = await self._ask_manifest(digest.replace(":", "-"), accept=INDEX)
        if answer.status == HTTPStatus.NOT_FOUND:
            return []
        refuse_error(answer, f"the list of what belongs to {digest}")
        return _referrers(answer)

    async def _ask_manifest(self, reference: str, *, accept: str = MANIFEST) -> Answer:
        url = self.url_of(f"manifests/{quote(reference)}")
        return await self._get(url, headers={"accept": accept}, most_bytes=_MANIFEST_BYTES)

    async def fetch_layer(self, layer: Layer, *, into: BinaryIO) -> Answer:
        """Write a layer into the file; raise InvalidSource if it has another size or digest than the manifest says."""
        most = self._fetch.settings.archive_bytes
        if layer.size > most:
            raise InvalidSource(f"{self.path}: the chart has {layer.size} bytes; the limit is {most}")
        url = self.url_of(f"blobs/{layer.digest}")
        answer = await self._get(url, most_bytes=max(layer.size, _ERROR_BYTES), into=into)
        refuse_error(answer, "a layer that the manifest names")
        if answer.size != layer.size or f"sha256:{answer.digest}" != layer.digest:
            raise InvalidSource(
                f"{shown(url)}: the registry serves {answer.size} bytes with the digest sha256:{answer.digest}, not "
                f"the {layer.size} bytes with {layer.digest} of the manifest"
            )
        return answer

    async def read_layer(self, layer: Layer, *, most_bytes: int) -> bytes:
        """Return a small layer; raise InvalidSource if it has more bytes, or is not what the manifest says."""
        if layer.size > most_bytes:
            raise InvalidSource(
                f"{self.path}: a layer ({layer.media_type[:80]}) has {layer.size} bytes, more than {most_bytes}"
            )
        with spool() as file:
            await self.fetch_layer(layer, into=file)
            file.seek(0)
            return file.read()

    def _judge(self, answer: Answer, url: str) -> tuple[Layer, Layer | None]:
        document = _json(answer)
        stated = answer.headers.get("content-type", "").partition(";")[0].strip()
        for media_type in (document.get("mediaType", stated), stated):
            if media_type != MANIFEST:
                raise InvalidSource(
                    f"{shown(url)}: its media type is {str(media_type)[:100]!r}, and not that of a chart's manifest, "
                    f"{MANIFEST}"
                )
        config, layers = document.get("config"), document.get("layers")
        if not isinstance(config, dict) or config.get("mediaType") != CONFIG or not isinstance(layers, list):
            raise InvalidSource(f"{shown(url)} is not a Helm chart: its config is not of the type {CONFIG}")
        found = [_layer(layer, url) for layer in layers]
        chart = next((layer for layer in found if layer.media_type == CHART), None)
        if chart is None:
            raise InvalidSource(f"{shown(url)} has no layer with a chart ({CHART})")
        return chart, next((layer for layer in found if layer.media_type == PROVENANCE), None)

    async def _get(
        self,
        url: str | None,
        *,
        headers: Mapping[str, str] | None = None,
        most_bytes: int,
        into: BinaryIO | None = None,
        scope: str = "",
    ) -> Answer:
        """Return the answer; log in once if the registry asks for it."""

        async def ask(authorization: str) -> Answer:
            return await self._fetch.get(
                url or "", headers=headers, authorization=authorization, most_bytes=most_bytes, into=into
            )

        return await self._logged_in(ask, scope=scope)

    async def send(
        self, method: str, url: str, *, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Answer:
        """Do the same with a request that may write; its answer is short."""

        async def ask(authorization: str) -> Answer:
            return await self._fetch.send(
                method, url, headers=headers or {}, authorization=authorization, body=body, most_bytes=_MANIFEST_BYTES
            )

        return await self._logged_in(ask)

    def url_of(self, what: str) -> str:
        """Return the address of something of this repository, such as ``blobs/uploads/``."""
        return f"{self._root}{quote(self.path)}/{what}"

    async def _logged_in(self, ask: Callable[[str], Awaitable[Answer]], *, scope: str = "") -> Answer:
        answer = await ask(self._authorization)
        if answer.status != _UNAUTHORIZED:
            return answer
        self._authorization = await self._log_in(answer, scope=scope or f"repository:{self.path}:{self._actions}")
        return await ask(self._authorization) if self._authorization else answer

    async def _log_in(self, refused: Answer, *, scope: str) -> str:
        """Return the header that the registry asks for; empty if there are no credentials for it."""
        challenge = refused.headers.get("www-authenticate", "")
        kind, _, rest = challenge.partition(" ")
        home = self._fetch.origin.basic if self._fetch.is_home(refused.url) else ""
        if kind.lower() == "basic":
            return home
        asked = dict(_CHALLENGE.findall(rest))
        realm = asked.get("realm", "")
        if kind.lower() != "bearer" or not realm:
            raise InvalidSource(
                f"{shown(refused.url)} asks for a log-in of an unknown kind; Basic and Bearer are known"
            )
        if home and not _is_near(realm, refused.url):
            raise InvalidSource(
                f"{shown(refused.url)} wants its credentials sent to {shown(realm)}, which may be somebody else's; "
                "that is not done: use a source without credentials"
            )
        query = urlencode(
            {"service": asked.get("service", ""), **({"scope": scope} if ":" in scope else {})}, errors="replace"
        )
        answer = await self._fetch.get(
            f"{realm}{'&' if '?' in realm else '?'}{query}", authorization=home, most_bytes=_MANIFEST_BYTES
        )
        refuse_error(answer, "a token")
        found = _json(answer)
        token = found.get("token") or found.get("access_token")
        if not isinstance(token, str) or not token.isascii() or not token.isprintable():
            raise SourceUnavailable(f"{shown(realm)} answers without a token")
        return f"Bearer {token}"

    def _next(self, answer: Answer) -> str | None:
        found = _NEXT.search(answer.headers.get("link", ""))
        if found is None:
            return None
        target = joined(answer.url, found[1])
        if authority(target) != authority(self._root):  # whither its credentials would be sent
            raise InvalidSource(f"{shown(answer.url)}: its next page is on another host; that is not followed")
        return target


def _layer(described: Any, url: str) -> Layer:
    match described:
        case {"mediaType": str(media_type), "digest": str(digest), "size": int(size)} if (
            _DIGEST.fullmatch(digest) and size >= 0
        ):
            return Layer(media_type, digest, size, _annotations(described))
    raise InvalidSource(f"{shown(url)}: a layer of the manifest has no media type, size or SHA-256 digest")


def _annotations(described: Mapping[str, Any]) -> dict[str, str]:
    annotations = described.get("annotations")
    named = annotations.items() if isinstance(annotations, dict) else ()
    return {key: text for key, text in named if isinstance(text, str)}


def _referrers(answer: Answer) -> list[Referrer]:
    """Return what an index lists; raise InvalidSource if it is none."""
    listed = _json(answer).get("manifests")
    if not isinstance(listed, list):
        raise InvalidSource(f"{shown(answer.url)} answers with manifests that are not a list")
    found: list[Referrer] = []
    for entry in listed:
        digest = entry.get("digest") if isinstance(entry, dict) else None
        if isinstance(digest, str) and _DIGEST.fullmatch(digest):
            stated = entry.get("artifactType")
            found.append(Referrer(digest, stated if isinstance(stated, str) else "", _annotations(entry)))
    return found


def _json(answer: Answer) -> dict[str, Any]:
    try:
        document = orjson.loads(answer.body)
    except orjson.JSONDecodeError:
        document = None
    if not isinstance(document, dict):
        raise InvalidSource(f"{shown(answer.url)} answers with something that is not a JSON object, as registries do")
    return document


def _texts(answer: Answer, name: str) -> list[str]:
    found = _json(answer).get(name) or []
    if not isinstance(found, list):
        raise InvalidSource(f"{shown(answer.url)} answers with {name} that are not a list")
    return [text for text in found if isinstance(text, str)]


def _chart_names(answer: Answer, prefix: str) -> list[str]:
    """Return the names of a page of the catalogue that are those of charts below the prefix, without it."""
    below = (name.removeprefix(prefix) for name in _texts(answer, "repositories") if name.startswith(prefix))
    return [name for name in below if CHART_NAME.fullmatch(name)]


def _is_near(realm: str, url: str) -> bool:
    """Return True if both are one host, or hosts of one domain, such as auth.docker.io and registry-1.docker.io."""
    (scheme, realm_host, _), (_, url_host, _) = authority(realm), authority(url)
    if scheme != "https":
        return False
    if realm_host == url_host:
        return True
    ends = [host.split(".")[-2:] for host in (realm_host, url_host)]
    return ends[0] == ends[1] and len(ends[0]) > 1 and not ends[0][-1].isdigit()
