"""What a source gives of one version: its archive, and what signs it."""

import hashlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import BinaryIO, Final

import structlog

from pilothouse.chart_sources.cosign import fetch_signatures
from pilothouse.chart_sources.fetch import Fetch
from pilothouse.chart_sources.registry import Manifest, NoChart, Repository, registry_url, tag_of
from pilothouse.chart_sources.repository import archive_url, fetch_archive, fetch_provenance
from pilothouse.engine.signatures import CosignSignatures
from pilothouse.errors import InvalidSource, NotFound, PilothouseError
from pilothouse.services.charts.signatures import MOST_BYTES
from pilothouse.store.described_versions import DescribedVersion
from pilothouse.store.source_charts import ComparedVersion, PulledVersion
from pilothouse.store.sources import SourceRow

log = structlog.get_logger(__name__)

_OCI: Final = "oci://"


@dataclass(frozen=True)
class Version:
    """A version of a source; ``url`` and ``digest`` as its index says them, both empty in a registry."""

    name: str
    version: str
    url: str = ""
    digest: str = ""


@dataclass(frozen=True)
class Signed:
    """What signs a chart, as far as its source verifies it; empty: nothing.

    ``manifest``: the digest of its manifest in a registry, ``archive`` that of the chart in it, in hex. ``withheld``:
    the source answered 403 to the question for a provenance, which may mean that there is none.
    """

    provenance: str = ""
    manifest: str = ""
    archive: str = ""
    signatures: CosignSignatures = field(default_factory=CosignSignatures)
    withheld: bool = False

    @property
    def evidence(self) -> str:
        """The digest of all of it: if it is another one, what was refused is worth another look."""
        tagged = sorted(f"{signature.payload} {signature.signature}" for signature in self.signatures.signatures)
        parts = (self.provenance, self.manifest, *tagged, "", *sorted(self.signatures.bundles))
        return hashlib.sha256("\0".join(parts).encode()).hexdigest()


async def fetch_chart(fetch: Fetch, row: SourceRow, version: Version, file: BinaryIO) -> Signed:
    """Write the chart into the file, and return what signs it."""
    place = _place_in_registry(fetch, row, version)
    if place is None:
        url = archive_url(row.url, version.url)
        await fetch_archive(fetch, url, digest=version.digest, into=file)
        return await _signed_beside(fetch, row, url)
    repository, tag = place
    manifest = await repository.find_manifest(tag)
    if version.digest and bare(version.digest) not in (bare(manifest.chart.digest), bare(manifest.digest)):
        raise InvalidSource(
            f"the registry does not have the chart that the index names: its digest is {manifest.chart.digest}, that "
            f"of its manifest {manifest.digest}, and not {version.digest[:80]}"
        )
    await repository.fetch_layer(manifest.chart, into=file)
    return await _signed_in_registry(repository, row, manifest)


async def fetch_signed(fetch: Fetch, row: SourceRow, version: Version) -> Signed:
    """Return what signs the chart by now, without fetching it."""
    place = _place_in_registry(fetch, row, version)
    if place is None:
        return await _signed_beside(fetch, row, archive_url(row.url, version.url))
    repository, tag = place
    return await _signed_in_registry(repository, row, await repository.find_manifest(tag))


async def is_unchanged(fetch: Fetch, row: SourceRow, version: Version, signed: Signed) -> bool:
    """Return True if the registry tells that the tag still leads to the manifest that was fetched."""
    place = _place_in_registry(fetch, row, version)
    if place is None or not signed.manifest:
        return False
    repository, tag = place
    return await repository.find_digest(tag) == signed.manifest


async def compare(fetch: Fetch, pulled: Sequence[PulledVersion]) -> AsyncIterator[ComparedVersion]:
    """Yield what lies under the tags of pulled versions by now.

    What cannot be told is left out, and all that follows if the registry limits requests or does not answer.
    """
    repositories = {version.name: Repository(fetch, fetch.origin.url, version.name) for version in pulled}
    for one in pulled:
        try:
            yield await _compare(repositories[one.name], one)
        except NotFound:
            continue
        except PilothouseError as error:
            log.info("tags_not_compared", chart=one.name, version=one.version, error=str(error))
            if not isinstance(error, InvalidSource):
                return


async def _compare(repository: Repository, pulled: PulledVersion) -> ComparedVersion:
    """Ask for one tag; while its manifest is the one that was seen last, nothing is read that counts as a pull."""
    tag = tag_of(pulled.version)
    if pulled.manifest and await repository.find_digest(tag) == pulled.manifest:
        return ComparedVersion(pulled, pulled.seen, pulled.manifest)
    try:
        manifest = await repository.find_manifest(tag)
    except NoChart as error:
        return ComparedVersion(pulled, "", error.digest)
    return ComparedVersion(pulled, bare(manifest.chart.digest), manifest.digest)


async def find_replaced(fetch: Fetch, described: Sequence[DescribedVersion]) -> AsyncIterator[DescribedVersion]:
    """Yield those versions under whose tags something else lies by now; what cannot be told is left out as above."""
    for version in described:
        repository, tag = Repository(fetch, fetch.origin.url, version.name), tag_of(version.version)
        try:
            if (await repository.find_digest(tag) or (await repository.find_manifest(tag)).digest) != version.manifest:
                yield version
        except NoChart:
            yield version
        except NotFound:
            continue
        except PilothouseError as error:
            log.info("tags_not_compared", chart=version.name, version=version.version, error=str(error))
            if not isinstance(error, InvalidSource):
                return


def bare(digest: str) -> str:
    """Return a digest in hex."""
    return digest.removeprefix("sha256:").lower()


def _place_in_registry(fetch: Fetch, row: SourceRow, version: Version) -> tuple[Repository, str] | None:
    """Return repository and tag of the version; None if it lies in no registry."""
    if row.kind == "oci":
        return Repository(fetch, fetch.origin.url, version.name), tag_of(version.version)
    url = archive_url(row.url, version.url)
    if not url.startswith(_OCI):
        return None
    # An index may list what lies in a registry; a reference without a tag is that of the version.
    base, _, rest = registry_url(url).rpartition("/")
    name, _, tag = rest.partition(":")
    return Repository(fetch, base, name), tag_of(tag or version.version)


async def _signed_beside(fetch: Fetch, row: SourceRow, url: str) -> Signed:
    if row.verification != "pgp":
        return Signed()
    provenance, status = await fetch_provenance(fetch, url, most_bytes=MOST_BYTES)
    return Signed(provenance=provenance, withheld=status == HTTPStatus.FORBIDDEN)


async def _signed_in_registry(repository: Repository, row: SourceRow, manifest: Manifest) -> Signed:
    found = Signed(manifest=manifest.digest, archive=bare(manifest.chart.digest))
    if row.verification == "pgp" and manifest.provenance is not None:
        text = await repository.read_layer(manifest.provenance, most_bytes=MOST_BYTES)
        return replace(found, provenance=text.decode("utf-8", "replace"))
    if row.verification == "cosign":
        return replace(found, signatures=await fetch_signatures(repository, manifest.digest))
    return found
