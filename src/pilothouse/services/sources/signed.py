"""Whether a key of its source has signed a version: judged when it is pulled, and before, by what lies beside it."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO

import structlog

from pilothouse.chart_sources.fetch import Fetch
from pilothouse.errors import Busy, PilothouseError, SourceDenied, SourceUnavailable
from pilothouse.services.charts.signatures import NotVerified, Signatures, SignedChart, not_verified
from pilothouse.services.sources.fetched import Signed, Version, bare, fetch_signed
from pilothouse.store.signed_versions import Candidate
from pilothouse.store.sources import SourceRow
from pilothouse.store.verifications import NewVerification

log = structlog.get_logger(__name__)


@dataclass(frozen=True)
class Looked:
    """A version that was looked at; ``reason``: why it is not to be offered, empty if a key has signed it."""

    candidate: Candidate
    evidence: str
    reason: str = ""


async def judge(
    signatures: Signatures,
    row: SourceRow,
    chart: SignedChart,
    signed: Signed,
    *,
    archive: BinaryIO | None,
    was: str = "stored",
) -> NewVerification | None:
    """Return who signed the chart; None if the source verifies none. Raises InvalidChart if nobody trusted did."""
    if row.verification == "none":
        return None
    told = {"keys": row.verification_keys, "project_id": row.project_id, "source": row.name, "was": was}
    if row.verification == "cosign":
        if not signed.signatures:
            why = f"manifest {signed.manifest}" if signed.manifest else "signatures are in registries only"
            raise not_verified(chart, f"source {row.name!r} has no signature by cosign of it ({why})", was=was)
        return await signatures.verify_manifest(chart, signed.signatures, digest=signed.manifest, **told)
    if not signed.provenance:
        shown = ", or does not show it (403)" if signed.withheld else ""
        raise not_verified(chart, f"source {row.name!r} has no provenance file (.prov) of it{shown}", was=was)
    return await signatures.verify_provenance(archive, chart, signed.provenance, **told)


async def look_at(
    fetch: Fetch, row: SourceRow, candidates: Sequence[Candidate], signatures: Signatures, *, most: int
) -> AsyncIterator[Looked]:
    """Yield what is found of each chart's newest versions, down to the first that a key has signed.

    At most that many are asked for. What cannot be told is left out, and all that follows if the source is busy or does
    not answer.
    """
    settled: set[str] = set()
    for candidate in candidates:
        if candidate.name in settled:
            continue
        if candidate.known:
            settled.add(candidate.name)
            continue
        if not most:
            return
        most -= 1
        try:
            found = await _look(fetch, row, candidate, signatures)
        except PilothouseError as error:
            # Who has the list may be refused one file of it, as stores do that tell nobody what they do not have.
            if isinstance(error, (Busy, SourceUnavailable)) and not isinstance(error, SourceDenied):
                raise
            log.info(
                "signature_not_told", source=row.id, chart=candidate.name, version=candidate.version, error=str(error)
            )
            continue
        if not found.reason:
            settled.add(candidate.name)
        yield found


async def _look(fetch: Fetch, row: SourceRow, candidate: Candidate, signatures: Signatures) -> Looked:
    listed = Version(candidate.name, candidate.version, candidate.url, candidate.digest)
    signed = await fetch_signed(fetch, row, listed)
    chart = replace(listed, digest=signed.archive or bare(candidate.digest))
    try:
        await judge(signatures, row, chart, signed, archive=None, was="offered")
    except NotVerified as error:
        return Looked(candidate, signed.evidence, str(error))
    return Looked(candidate, signed.evidence)
