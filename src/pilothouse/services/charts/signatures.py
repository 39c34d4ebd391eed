"""Who signed a chart, found by the engine's child: nothing of a signature or a key is parsed in this process."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO, Literal, Protocol

from pilothouse.engine.pool import EnginePool
from pilothouse.engine.request import OutcomeT, Request
from pilothouse.engine.signatures import (
    CosignSignatures,
    FoundSignature,
    ReadKeysRequest,
    VerifyProvenanceRequest,
    VerifySignaturesRequest,
)
from pilothouse.errors import (
    Busy,
    EngineCrashed,
    EngineTimeout,
    HelmError,
    InvalidArgument,
    InvalidChart,
    InvalidRequest,
)
from pilothouse.settings import EngineSettings
from pilothouse.store.verifications import NewVerification

KeyKind = Literal["pgp", "cosign"]
#: A provenance holds a Chart.yaml, which is as small as that; so do keys and what cosign signs.
MOST_BYTES = 256 * 1024


@dataclass(frozen=True)
class TrustedKeys:
    """The fingerprints of keys that can sign, subkeys included; ``unusable``: of the others, each with the reason."""

    trusted: Sequence[str] = ()
    unusable: Sequence[str] = ()


class SignedChart(Protocol):
    """A chart whose signature is judged: its archive's digest in hex is empty if nobody tells it."""

    @property
    def name(self) -> str:
        """Return the chart's name."""

    @property
    def version(self) -> str:
        """Return its version."""

    @property
    def digest(self) -> str:
        """Return the SHA-256 of its archive in hex."""


class Signatures:
    """Read public keys, and verify what they signed."""

    def __init__(self, engine: EnginePool, settings: EngineSettings) -> None:
        self._engine = engine
        self._settings = settings

    async def read_keys(self, kind: KeyKind, keys: str, *, project_id: str) -> TrustedKeys:
        """Return which public keys can sign now; raise InvalidRequest if they are none, or Busy."""
        try:
            found = await self._ask(ReadKeysRequest(kind=kind, keys=keys), project_id=project_id)
        except (HelmError, EngineCrashed, EngineTimeout) as error:
            raise InvalidArgument(f"keys: they cannot be read as public keys for {kind}: {error}") from error
        return TrustedKeys(list(dict.fromkeys(found.fingerprints)), list(found.unusable))

    async def look_at_keys(self, kind: KeyKind, keys: str, known: TrustedKeys, *, project_id: str) -> TrustedKeys:
        """Return which keys can sign by now: some may have expired since; ``known`` if that cannot be told."""
        if not keys:
            return known
        try:
            return await self.read_keys(kind, keys, project_id=project_id)
        except (InvalidRequest, Busy):
            return known

    async def verify_provenance(
        self,
        archive: BinaryIO | None,
        chart: SignedChart,
        provenance: str,
        *,
        keys: str,
        project_id: str,
        source: str = "",
        was: str = "stored",
    ) -> NewVerification:
        """Return who signed the archive by its provenance; raise InvalidChart if none of the keys did, or Busy.

        One that is not there is judged by its digest.
        """
        request = VerifyProvenanceRequest(
            chart=archive if archive is not None else b"",
            unfetched=archive is None,
            digest=chart.digest,
            file_name=f"{chart.name}-{chart.version}.tgz",
            provenance=provenance,
            keys=keys,
        )
        found = await self._verify(request, chart, project_id=project_id, was=was)
        return NewVerification(
            kind="pgp",
            fingerprint=found.fingerprint,
            signing_key=found.signing_key,
            signed_by=found.signed_by,
            signed_at=datetime.fromisoformat(found.signed_at) if found.signed_at else None,
            signed_digest=chart.digest,
            source=source,
            provenance=provenance,
        )

    async def verify_manifest(
        self,
        chart: SignedChart,
        signed: CosignSignatures,
        *,
        digest: str,
        keys: str,
        project_id: str,
        source: str,
        was: str = "stored",
    ) -> NewVerification:
        """Return which key signed the manifest with that digest, by cosign; raise InvalidChart if none did, or Busy."""
        request = VerifySignaturesRequest(
            digest=digest, signatures=signed.signatures, bundles=signed.bundles, keys=keys
        )
        found = await self._verify(request, chart, project_id=project_id, was=was)
        return NewVerification(
            kind="cosign",
            fingerprint=found.fingerprint,
            signing_key=found.signing_key,
            signed_by=found.signed_by,
            signed_at=None,
            signed_digest=digest,
            source=source,
            provenance="",
        )

    async def _verify(
        self, request: Request[FoundSignature], chart: SignedChart, *, project_id: str, was: str = "stored"
    ) -> FoundSignature:
        try:
            return await self._ask(request, project_id=project_id)
        except HelmError as error:
            raise not_verified(chart, str(error), was=was) from error
        except (EngineCrashed, EngineTimeout) as error:
            raise InvalidChart(str(not_verified(chart, str(error), was=was))) from error

    async def _ask(self, request: Request[OutcomeT], *, project_id: str) -> OutcomeT:
        return await self._engine.run(
            request,
            deadline_seconds=self._settings.answer_seconds,
            queue_seconds=self._settings.queue_seconds,
            share=project_id,
        )


class NotVerified(InvalidChart):
    """A chart is not signed by a trusted key."""


def not_verified(chart: SignedChart, reason: str, *, was: str = "stored") -> NotVerified:
    """Return the error for a chart whose signature does not count; ``was``: what was not done with it."""
    return NotVerified(f"chart {chart.name} {chart.version} is not verified, and was not {was}: {reason}")
