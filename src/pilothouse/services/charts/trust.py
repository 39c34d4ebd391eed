"""Which keys a project trusts for the charts that are uploaded, and whether it takes verified charts only."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import BinaryIO, Final

from pilothouse.chart_archive.charts import ChartArchive
from pilothouse.errors import InvalidArgument, InvalidRequest
from pilothouse.services.charts.signatures import Signatures, TrustedKeys, not_verified
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.services.identity.standing import require_still
from pilothouse.store import audit, chart_origins, sources, verifications
from pilothouse.store.chart_origins import ChartOrigin
from pilothouse.store.database import Database, Transaction, retry_conflicts
from pilothouse.store.sources import SourceRow
from pilothouse.store.verifications import NewVerification, SourceTrust, TrustRow, VerificationRow

SET_TRUST: Final = "cce:verification:update"
#: Why the provenance of an upload is passed over, and what to do.
NO_KEYS: Final = "this project trusts no key for uploads: set some with 'pilothouse trust set --keys FILE'"
#: Fingerprints of keys in a row of the audit.
_MOST_TOLD: Final = 5


@dataclass(frozen=True)
class ChangeTrust:
    """What a project is to trust; what is None stays as it is."""

    verified_only: bool | None = None
    keys: str | None = None


@dataclass(frozen=True)
class ShownTrust(TrustRow):
    """What a project trusts; ``sources`` with keys, which count, too."""

    sources: Sequence[SourceTrust] = ()


def digest_of(row: TrustRow) -> str:
    """Return what a form tells of the trust that it was shown with."""
    return hashlib.sha256(f"{row.verified_only}\n{row.verification_keys}".encode()).hexdigest()


class Trust:
    """Show and change which charts a project takes."""

    def __init__(self, database: Database, signatures: Signatures) -> None:
        self._database = database
        self._signatures = signatures

    async def show(self, caller: Caller) -> ShownTrust:
        """Return whose signatures count in the caller's project."""
        caller.require("cce:verification:get")
        async with self._database.autocommit() as connection:
            row = await verifications.find_trust(connection, caller.project_id)
            shown = await _shown(connection, row, project_id=caller.project_id)
        known = TrustedKeys(row.trusted, row.unusable)
        now = await self._signatures.look_at_keys("pgp", row.verification_keys, known, project_id=caller.project_id)
        return replace(shown, **vars(now))

    async def change(self, caller: Caller, change: ChangeTrust, *, request_id: str, shown: str = "") -> ShownTrust:
        """Replace it; raise InvalidRequest for keys that cannot be read. What runs is not affected.

        ``shown``: only what has that digest; InvalidRequest if it is another by now.
        """
        caller.require(SET_TRUST)
        changes: dict[str, object] = {}
        if change.verified_only is not None:
            changes["verified_only"] = change.verified_only
        if change.keys is not None:
            found = TrustedKeys()
            if change.keys:
                found = await self._signatures.read_keys("pgp", change.keys, project_id=caller.project_id)
            changes |= {"verification_keys": change.keys, **vars(found)}
        if not changes:
            raise InvalidArgument("nothing to change: send verified_only, keys or both")
        return await self._keep(caller, changes, request_id=request_id, shown=shown)

    @retry_conflicts
    async def _keep(self, caller: Caller, changes: dict[str, object], *, request_id: str, shown: str) -> ShownTrust:
        async with self._database.transaction() as tx:
            await require_still(tx, caller, SET_TRUST)
            before = await verifications.hold_trust(tx, caller.project_id)
            if shown and shown != digest_of(before):
                raise InvalidRequest("it was changed since it was shown; look at what it is now, and again")
            row = await verifications.set_trust(tx, caller.project_id, changes)
            await sources.hold_all(tx, caller.project_id)
            await chart_origins.renew_all(tx, caller.project_id)
            await audit.record(
                tx,
                caller,
                SET_TRUST,
                target=caller.project_id,
                target_name=caller.project_name,
                detail=_describe(before, row, keys_changed="verification_keys" in changes),
                request_id=request_id,
            )
            return await _shown(tx, row, project_id=caller.project_id)

    async def judge(
        self, chart: ChartArchive, archive: BinaryIO, provenance: str, *, project_id: str
    ) -> NewVerification | None:
        """Return who signed an upload; None if nobody is known to, which the project takes.

        Raises InvalidChart if its provenance does not count, or if there is none and the project takes no such chart.
        """
        async with self._database.autocommit() as connection:
            trust = await verifications.find_trust(connection, project_id)
            counts = await verifications.counts(connection, project_id=project_id, digest=chart.digest)
        if provenance and trust.verification_keys:
            return await self._signatures.verify_provenance(
                archive, chart, provenance, keys=trust.verification_keys, project_id=project_id
            )
        if trust.verified_only and not counts:
            raise not_verified(
                chart,
                "this project takes verified charts only, and "
                + (
                    "trusts no key for uploads: 'pilothouse trust set --keys FILE' sets them"
                    if provenance
                    else "it came without a provenance file (.prov)"
                ),
            )
        return None

    async def judge_pushed(self, chart: ChartArchive, archive: BinaryIO, provenance: str, *, to: SourceRow) -> None:
        """Return if the project may send the archive to its source; it is not stored.

        One that takes verified charts only sends no others: else what it refuses would go out with its credentials.
        Raises InvalidChart.
        """
        project_id = to.project_id
        async with self._database.autocommit() as connection:
            trust = await verifications.find_trust(connection, project_id)
            counts = await verifications.counts(connection, project_id=project_id, digest=chart.digest)
        if not trust.verified_only or counts:
            return
        keys = "\n".join([trust.verification_keys, to.verification_keys if to.verification == "pgp" else ""]).strip()
        if not provenance or not keys:
            raise not_verified(
                chart,
                "this project takes verified charts only, and "
                + ("neither it nor the source has keys for it" if provenance else "it came without a provenance file"),
                was="pushed",
            )
        await self._signatures.verify_provenance(
            archive, chart, provenance, keys=keys, project_id=project_id, was="pushed"
        )


@dataclass(frozen=True)
class NamedChart:
    """A chart as it was known, with name and version in ``name``, which may be gone."""

    id: str
    name: str
    digest: str


async def explain_gone(tx: Transaction, chart: NamedChart, *, is_there: bool, project_id: str) -> str:
    """Return why the project has the chart no more with that digest; ``is_there``: it has it with another one."""
    what = f"chart {chart.name}"
    signed = None if is_there else await verifications.find(tx, project_id=project_id, digest=chart.digest)
    if signed is not None and not signed.of_revision and not signed.key_trusted:
        who = f"{signed.signed_by or 'the key'} ({signed.fingerprint})"
        return f"{what} was signed by {who}, which is not trusted any more"
    origin = ChartOrigin() if is_there else await chart_origins.find_origin(tx, chart.id, project_id=project_id)
    if origin.removed_at is not None:
        return f"source {origin.source!r}, of which {what} was, was removed since the plan was made"
    source = await sources.find(tx, origin.source, project_id=project_id) if origin.source else None
    if source is not None and source.verification != "none" and signed is None:
        return (
            f"source {source.name!r} has got keys since the plan was made, and it is not known that one of them has "
            f"signed {what}"
        )
    return f"{what} was deleted or replaced since the plan was made"


def list_keys(fingerprints: Sequence[str]) -> str:
    """Return the fingerprints as the audit tells them, with the number of those for which it has no room."""
    detail = ", ".join(fingerprints[:_MOST_TOLD])
    others = len(fingerprints) - _MOST_TOLD
    return f"{detail} and {others} more" if others > 0 else detail or "no key that can sign"


def describe_keys(before: Sequence[str], now: Sequence[str]) -> str:
    """Return which keys count from then on, and which no more."""
    added, removed = [key for key in now if key not in before], [key for key in before if key not in now]
    parts = [f"trusts {list_keys(added)} from now on"] if added else []
    parts += [f"no longer {list_keys(removed)}"] if removed else []
    return "; ".join(parts) or "the same as before"


def _describe(before: TrustRow, row: TrustRow, *, keys_changed: bool) -> str:
    """Return what the audit tells of a change."""
    rule = "verified charts only" if row.verified_only else "all charts"
    return f"{rule}; keys of uploads: {describe_keys(before.trusted, row.trusted)}" if keys_changed else rule


async def _shown(tx: Transaction, row: TrustRow, *, project_id: str) -> ShownTrust:
    return ShownTrust(**vars(row), sources=await verifications.list_sources(tx, project_id))


def without_source(row: VerificationRow | None) -> VerificationRow | None:
    """Return the verification without the name of its source, for callers who may not see sources."""
    return replace(row, source="") if row is not None else None
