"""Conversion of release Secrets to rows of the release index, and back.

A row holds the values as the text sent to clients, compressed and sealed: lists pass them on without parsing. They can
be a thousand times larger uncompressed, so the row has the size, and values that are too large are not stored. Whoever
can write Secrets in one namespace of a cluster controls their content, so texts are cut and sanitised for PostgreSQL,
and a Secret that cannot be decoded becomes a row that names it and is not displayed.
"""

import zlib

import structlog

from pilothouse.auth.sealing import MasterKeys
from pilothouse.errors import ClusterUnavailable, CorruptRelease, DecryptionFailed
from pilothouse.kubernetes.api_client import resource_version
from pilothouse.kubernetes.client import Secret
from pilothouse.kubernetes.external_managers import find_manager, find_mark
from pilothouse.kubernetes.helm_secrets import OPERATION_LABEL, StoredRelease, decode_release, release_key
from pilothouse.services.charts.archives import compact_json
from pilothouse.states import ReleaseStatus
from pilothouse.store import cluster_watches
from pilothouse.store import release_index as store
from pilothouse.store.database import Transaction
from pilothouse.store.release_index import NewRevision, Revision, SeenSecret
from pilothouse.store.texts import sanitize

log = structlog.get_logger(__name__)

_LONGEST_NAME = 253
#: In bytes: what lists show is in an index, which takes 2,700 for a row, and names may have 316 of them.
LONGEST_LISTED, LONGEST_MANAGER = 253, 512
_LONGEST_TEXT = 8192
#: Of the values of one revision, as JSON text: what is larger is left out of every answer.
LARGEST_VALUES = 4 * 1024 * 1024
_PACKED, _PLAIN = b"\x01", b"\x00"
_WORTH_PACKING = 256


class ReleaseIndex:
    """Seal what is read from Secrets for the index, and open what the index holds."""

    def __init__(self, keys: MasterKeys) -> None:
        self._keys = keys

    def read(self, cluster_id: str, secret: Secret, seen: SeenSecret | None = None) -> NewRevision | None:
        """Return the Secret's row, with its problem if it cannot be decoded; None if it lacks even a name.

        ``seen``: what ``see`` returns of it, if it has been asked.
        """
        seen = seen or see(secret)
        if seen is None:
            return None
        key = release_key(secret)
        if key is None:
            return _unreadable(seen, secret, f"Secret {seen.namespace}/{seen.secret} is not a Helm release")
        try:
            stored = decode_release(secret)
        except CorruptRelease as error:
            return _unreadable(seen, secret, str(error))
        values = compact_json(stored.values).encode()
        return NewRevision(
            namespace=seen.namespace,
            secret=seen.secret,
            name=stored.name,
            revision=stored.revision,
            resource_version=seen.resource_version,
            problem="",
            uid=_clean(stored.uid, _LONGEST_NAME),
            status=cut(stored.status, LONGEST_LISTED),
            description=_clean(stored.description, _LONGEST_TEXT),
            chart_name=cut(stored.chart_name, LONGEST_LISTED),
            chart_version=cut(stored.chart_version, LONGEST_LISTED),
            first_deployed=stored.first_deployed,
            last_deployed=stored.last_deployed,
            deleted_at=stored.deleted_at,
            values_sealed=self._seal(cluster_id, stored, values) if len(values) <= LARGEST_VALUES else None,
            values_text_size=len(values),
            app_version=cut(stored.app_version, LONGEST_LISTED),
            manager=cut(_manager(secret, stored), LONGEST_MANAGER),
            operation_id=_clean(str(stored.labels.get(OPERATION_LABEL, "")), _LONGEST_NAME),
        )

    def open_values(self, cluster_id: str, row: Revision) -> str | None:
        """Return the row's values as JSON text; None if they are too large, or do not open: the log says why."""
        if row.values_sealed is None:
            return None if row.values_text_size else ""
        context = _context(cluster_id, row.namespace, row.secret)
        try:
            plain = self._keys.unseal(row.values_sealed, context=context)
            if plain[:1] != _PACKED:
                return plain[1:].decode()
            text = zlib.decompressobj().decompress(plain[1:], LARGEST_VALUES + 1).decode()
        except (DecryptionFailed, UnicodeDecodeError, zlib.error) as error:
            log.warning("values_unreadable", values_of=context, cause=str(error))
            return None
        return text if len(text) <= LARGEST_VALUES else None  # of a version that kept larger ones

    async def record(self, tx: Transaction, cluster_id: str, secret: Secret) -> None:
        """Write a Secret that was just read after an action to the index, before the outcome is written.

        Also applies what Helm does to the revisions before a deployed one.
        """
        row = self.read(cluster_id, secret)
        if row is None:
            return
        await cluster_watches.hold(tx, cluster_id)
        if row.status == ReleaseStatus.DEPLOYED and row.revision > 1:
            await store.supersede(tx, cluster_id, namespace=row.namespace, name=row.name, revision=row.revision)
        await store.apply_revisions(tx, cluster_id, [row])

    async def record_gone(
        self, tx: Transaction, cluster_id: str, *, namespace: str, name: str, resource_version: int
    ) -> None:
        """Record that the release had no Secret at this resourceVersion, before an uninstall's outcome is written."""
        await store.mark_missing_deleted(
            tx, cluster_id, resource_version=resource_version, kept=[], namespace=namespace, name=name
        )

    def _seal(self, cluster_id: str, stored: StoredRelease, text: bytes) -> bytes:
        packed = _PACKED + zlib.compress(text, 1) if len(text) >= _WORTH_PACKING else _PLAIN + text
        secret = f"sh.helm.release.v1.{stored.name}.v{stored.revision}"
        return self._keys.seal(packed, context=_context(cluster_id, stored.namespace, secret))


def see(secret: Secret) -> SeenSecret | None:
    """Return the identity of a Secret in a list or event; None without name or resourceVersion."""
    metadata = secret.get("metadata")
    if not isinstance(metadata, dict):
        return None
    namespace, name = metadata.get("namespace"), metadata.get("name")
    if not isinstance(namespace, str) or not isinstance(name, str) or not namespace or not name:
        return None
    try:
        version = resource_version(metadata)
    except ClusterUnavailable:
        return None
    return SeenSecret(_clean(namespace, _LONGEST_NAME), _clean(name, _LONGEST_NAME), version)


def _unreadable(seen: SeenSecret, secret: Secret, problem: str) -> NewRevision:
    return NewRevision(
        namespace=seen.namespace,
        secret=seen.secret,
        name="",
        revision=0,
        resource_version=seen.resource_version,
        problem=_clean(problem, _LONGEST_TEXT) or "is not a Helm release",
        uid=_clean(str(secret["metadata"].get("uid", "")), _LONGEST_NAME),
        status="",
        description="",
        chart_name="",
        chart_version="",
        first_deployed=None,
        last_deployed=None,
        deleted_at=None,
        values_sealed=None,
        values_text_size=0,
        app_version="",
        manager="",
        operation_id="",
    )


def _manager(secret: Secret, stored: StoredRelease) -> str:
    found = find_manager(secret["metadata"]) or find_mark(stored.manifest)
    return str(found) if found is not None else ""


def _clean(text: str, longest: int) -> str:
    """Remove what PostgreSQL cannot store, and cut."""
    return sanitize(text[:longest])


def cut(text: str, longest: int) -> str:
    """Remove what PostgreSQL cannot store, and cut to so many bytes."""
    return sanitize(text[:longest]).encode()[:longest].decode(errors="ignore")


def _context(cluster_id: str, namespace: str, secret: str) -> str:
    return f"release:{cluster_id}/{namespace}/{secret}"
