"""Checks of ``pilothouse doctor``: one function per check, which reports what it found and what to do.

Nothing is created or changed, so the doctor can run next to a server, and on a machine that never had one.
"""

import asyncio
import os
import shutil
import ssl
import stat
import tempfile
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import httpx2

from pilothouse.auth.certificates import CertificateFiles, authority_file, is_constrained, read_certificate
from pilothouse.auth.key_file import read_keys
from pilothouse.auth.sealing import MasterKeys
from pilothouse.cli.findings import Finding, State, done, guarded, guarded_list
from pilothouse.cli.keystone_checks import check_keystone
from pilothouse.cli.provider_checks import check_providers
from pilothouse.embedded_postgres.report import PostgresReport, report
from pilothouse.engine.accounts import obstacle
from pilothouse.engine.pool import EnginePool
from pilothouse.engine.sandbox import missing_protections
from pilothouse.errors import PilothouseError
from pilothouse.http.endpoints import HEALTH_PATH, Endpoint, endpoints
from pilothouse.kubernetes.client_cache import ClusterClients
from pilothouse.open_files import RESERVED, hard_limit
from pilothouse.redaction import redact
from pilothouse.services.admin.master_keys import list_keys
from pilothouse.services.clusters import Clusters
from pilothouse.settings import Settings
from pilothouse.store import clusters as cluster_store
from pilothouse.store.database import Database
from pilothouse.store.migration import current_schema
from pilothouse.store.poolers import ADVICE, SESSION_NEEDED, shares_sessions
from pilothouse.store.schema_revision import needed_revision

_LITTLE_SPACE: Final = 1024**3
_SOON: Final = timedelta(days=14)
_CLOCK_SECONDS: Final = 5.0
_OLDEST_POSTGRES: Final = 14
_CLUSTER_SECONDS: Final = 6.0


async def examine(settings: Settings) -> list[Finding]:
    """Run every check, in the order of their dependencies; takes a few seconds at most."""
    engine = asyncio.create_task(guarded("engine", lambda: _engine(settings)))
    first = [
        await guarded("data folder", lambda: done(_data_folder(settings))),
        _open_files(settings),
        await guarded("master key", lambda: done(_master_key(settings))),
    ]
    postgres, postgres_finding = await _postgres(settings)
    url = settings.database_url.get_secret_value() if settings.database_url else postgres.url if postgres else None
    in_database = await _examine_database(settings, url)
    listeners = await guarded_list("listeners", lambda: _listeners(settings))
    certificate = await guarded("certificate", lambda: done(_certificate(settings)))
    providers = await guarded_list("providers", lambda: check_providers(settings))
    keystone = await guarded_list("keystone", lambda: check_keystone(settings))
    machine = [await engine, _engine_sandbox(), *listeners, certificate]
    return [*first, postgres_finding, *in_database, *machine, *providers, *keystone]


async def _examine_database(settings: Settings, url: str | None) -> list[Finding]:
    names = ("schema", "sealed values", "clock", "clusters")
    if url is None:
        return [
            Finding(name, State.SKIPPED, "the database does not run", "start 'pilothouse serve', and look again")
            for name in names
        ]
    database = Database(url, pool_size=2)
    try:
        schema = await guarded("schema", lambda: done(_schema(database)))
        if schema.state is State.FAILED:
            return [schema, *(Finding(name, State.SKIPPED, "see schema") for name in names[1:])]
        return [
            schema,
            await guarded("sealed values", lambda: _sealed_values(settings, database)),
            await guarded("clock", lambda: _clock(database)),
            *await guarded_list("clusters", lambda: _clusters(settings, database)),
        ]
    finally:
        await database.close()


def _open_files(settings: Settings) -> Finding:
    name, most, needed = "open files", hard_limit(), settings.http.connections + RESERVED
    if most < 0 or most >= needed:
        return Finding(name, State.OK, f"a process may open {most if most >= 0 else 'any number of'} files")
    return Finding(
        name,
        State.WARNING,
        f"a process may open {most} files: too few for the {settings.http.connections} connections of "
        "PILOTHOUSE_HTTP__CONNECTIONS",
        f"raise the hard limit of open files (ulimit -Hn, LimitNOFILE=) to {needed}",
    )


def _data_folder(settings: Settings) -> Finding:
    folder, name = settings.data_dir, "data folder"
    if not folder.exists():
        parent = next(parent for parent in folder.absolute().parents if parent.exists())
        if os.access(parent, os.W_OK | os.X_OK):
            return Finding(name, State.OK, f"{folder} is not there yet; the first start makes it")
        return Finding(
            name, State.FAILED, f"{folder} is not there, and {parent} may not be written", "set PILOTHOUSE_DATA_DIR"
        )
    status = folder.stat()
    if not stat.S_ISDIR(status.st_mode) or not os.access(folder, os.W_OK | os.X_OK):
        return Finding(name, State.FAILED, f"cannot write to {folder}", "run as the server's account, or as root")
    if status.st_mode & 0o022:
        return Finding(
            name,
            State.FAILED,
            f"{folder} may be written by others (mode {status.st_mode & 0o777:04o})",
            f"chmod go-w '{folder}'",
        )
    free = shutil.disk_usage(folder).free
    if free < _LITTLE_SPACE:
        return Finding(
            name, State.WARNING, f"{folder}: {free // 1024**2} MiB free", "make room: a full disk stops work"
        )
    return Finding(name, State.OK, f"{folder}, {free // 1024**3} GiB free")


def _master_key(settings: Settings) -> Finding:
    if not settings.master_key.exists():
        made = settings.database_url is not None or (settings.data_dir / "postgres.json").exists()
        if made:
            return Finding(
                "master key",
                State.FAILED,
                f"{settings.master_key} is missing",
                "restore it from a backup: without it nothing secret in the database opens",
            )
        return Finding("master key", State.OK, "not there yet; the first start makes it")
    ring = read_keys(settings.master_key)
    return Finding("master key", State.OK, f"{settings.master_key}: {len(ring.keys)} keys, {ring.sealing} seals")


async def _postgres(settings: Settings) -> tuple[PostgresReport | None, Finding]:
    if settings.database_url is not None:
        url = settings.database_url.get_secret_value()
        return None, await guarded("postgresql", lambda: _given_postgres(url))
    try:
        found = await asyncio.to_thread(report, settings.postgres, data_dir=settings.data_dir)
    except (PilothouseError, OSError) as error:
        return None, Finding("postgresql", State.FAILED, redact(str(error)), "see there")
    state = "running" if found.url else "not running" if found.made else "not made yet; the first start makes it"
    return found, Finding("postgresql", State.OK, f"{found.programs}, account {found.account}; database {state}")


async def _given_postgres(url: str) -> Finding:
    if await asyncio.to_thread(shares_sessions, url):
        return Finding("postgresql", State.FAILED, SESSION_NEEDED, ADVICE)
    database = Database(url, pool_size=1)
    try:
        version = await database.server_version()
    finally:
        await database.close()
    where = f"PostgreSQL {version} at {database.url.host or 'a local socket'}"
    if version < _OLDEST_POSTGRES:
        return Finding("postgresql", State.FAILED, where, f"use PostgreSQL {_OLDEST_POSTGRES} or newer")
    return Finding("postgresql", State.OK, f"{where}, by PILOTHOUSE_DATABASE_URL")


def _schema(database: Database) -> Finding:
    found, needed = current_schema(database), needed_revision()
    if not found.problem:
        newer = f"{found.revision}, of a newer version; this one, of {needed}, runs on it"
        return Finding("schema", State.OK, newer if found.is_newer else f"{found.revision}, as this version needs")
    return Finding(
        "schema",
        State.FAILED,
        f"{found.revision or 'none'}, and this version needs {needed}",
        "run 'pilothouse migrate', or use the version that the database is of",
    )


async def _sealed_values(settings: Settings, database: Database) -> Finding:
    uses = await list_keys(database, settings.master_key)
    old = sum(use.values for use in uses if use.role == "opens")
    total = sum(use.values for use in uses)
    if old:
        return Finding(
            "sealed values", State.WARNING, f"{old} of {total} need an old master key", "run 'pilothouse key reseal'"
        )
    return Finding("sealed values", State.OK, f"{total}, all under the master key that seals now")


async def _clock(database: Database) -> Finding:
    before = datetime.now(UTC)
    theirs = await database.now()
    after = datetime.now(UTC)
    off = max((before - theirs).total_seconds(), (theirs - after).total_seconds(), 0.0)
    if off > _CLOCK_SECONDS:
        return Finding(
            "clock",
            State.WARNING,
            f"{off:.0f} s apart from the database's clock",
            "synchronise both: signatures are refused when clocks are 15 minutes apart",
        )
    return Finding("clock", State.OK, f"{after:%Y-%m-%d %H:%M:%S} UTC, as the database's")


async def _clusters(settings: Settings, database: Database) -> list[Finding]:
    clients = ClusterClients(settings.cluster)
    keys = MasterKeys.of_ring(read_keys(settings.master_key))
    known = Clusters(database, keys, clients, settings.cluster)
    try:
        async with database.autocommit() as connection:
            rows = await cluster_store.list_all_clusters(connection)
        if not rows:
            return [Finding("clusters", State.OK, "none registered", "register one: pilothouse cluster add")]

        async def probe(row: cluster_store.ClusterRow) -> Finding:
            async with asyncio.timeout(_CLUSTER_SECONDS):
                version = await known.client(known.open(row.id, row)).probe()
            return Finding(f"cluster {row.name}", State.OK, f"{row.server}: Kubernetes {version.version}")

        return list(await asyncio.gather(*(guarded(f"cluster {row.name}", partial(probe, row)) for row in rows)))
    finally:
        await clients.close()


async def _engine(settings: Settings) -> Finding:
    with tempfile.TemporaryDirectory(prefix="pilothouse-doctor-") as folder:
        single = settings.engine.model_copy(update={"children": 1})
        pool = EnginePool(single, state_dir=Path(folder), charts=settings.charts)
        try:
            await pool.start()
            versions = ", ".join(f"{name} {version}" for name, version in sorted(pool.versions.items()))
        finally:
            await pool.close()
    return Finding("engine", State.OK, f"the Helm engine works in a child process ({versions})")


def _engine_sandbox() -> Finding:
    name, account = "engine sandbox", obstacle()
    missing = missing_protections()
    if os.geteuid() == 0 and account:
        missing.append(f"no accounts for children: {account}")
    if missing:
        return Finding(
            name,
            State.WARNING,
            f"engine children lack {'; '.join(missing)}",
            "use Linux 6.12 or newer with Landlock, and give root its usual capabilities; or register only clusters "
            "and let in only people that you trust",
        )
    own = f"the account of Pilothouse ({account})" if account else "an account of its own for each"
    return Finding(name, State.OK, f"files, sockets and signals are closed to engine children; {own}")


async def _listeners(settings: Settings) -> list[Finding]:
    return [await _listener(endpoint) for endpoint in endpoints(settings)]


async def _listener(endpoint: Endpoint) -> Finding:
    name = f"{endpoint.scheme} listener"
    trust = ssl.create_default_context()
    trust.check_hostname, trust.verify_mode = False, ssl.CERT_NONE  # asked for its name only, nothing is believed
    try:
        async with httpx2.AsyncClient(trust_env=False, timeout=3.0, verify=trust) as http:
            answer = await http.get(endpoint.url + HEALTH_PATH)
        if answer.json()["status"] == "ok" and "x-request-id" in answer.headers:
            return Finding(name, State.OK, f"{endpoint.url}: Pilothouse serves")
    except (httpx2.HTTPError, ValueError, KeyError, TypeError):
        pass
    try:
        server = await asyncio.start_server(lambda _reader, writer: writer.close(), endpoint.host, endpoint.port)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno and error.errno > 0 else str(error)
        variable = "PILOTHOUSE_PORT" if endpoint.scheme == "http" else "PILOTHOUSE_TLS__PORT"
        return Finding(
            name,
            State.FAILED,
            f"{endpoint.url}: {reason}, and no healthy Pilothouse answers there",
            f"end the program that listens there, or set {variable}",
        )
    server.close()
    return Finding(name, State.OK, f"{endpoint.url} is free")


def _certificate(settings: Settings) -> Finding:
    tls, folder = settings.tls, settings.data_dir / "tls"
    if not tls.port:
        return Finding("certificate", State.SKIPPED, "TLS is off (PILOTHOUSE_TLS__PORT=0)")
    if tls.certificate and tls.key:
        files = CertificateFiles(tls.certificate, tls.key)
    elif not authority_file(folder).exists():
        return Finding("certificate", State.OK, "not there yet; the first start makes an authority and a certificate")
    else:
        files = CertificateFiles(folder / "server.pem", folder / "server.key", authority_file(folder))
    ends = {path: read_certificate(path).not_valid_after_utc for path in (files.certificate, files.authority) if path}
    first = min(ends, key=lambda path: ends[path])
    left = ends[first] - datetime.now(UTC)
    found = f"{first}: until {ends[first]:%Y-%m-%d}"
    renewal = (
        "restart the server, which renews it" if files.authority else "put a new one in its place; servers notice it"
    )
    if left < timedelta():
        return Finding("certificate", State.FAILED, f"{found}, which is over", renewal)
    if files.authority and not is_constrained(read_certificate(files.authority)):
        found += f"; the authority {files.authority} of an earlier version is good for any name"
        renewal = f"move {folder} away, start again, and give clients the new ca.pem"
        return Finding("certificate", State.WARNING, found, renewal)
    return Finding("certificate", State.WARNING if left < _SOON else State.OK, found, renewal if left < _SOON else "")
