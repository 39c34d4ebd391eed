"""Every metric that a process counts itself; what the database knows is in ``services.metrics``.

Names follow the Prometheus conventions, those of HTTP the semantic conventions of OpenTelemetry. No label names a
release, a user or a path that a client has chosen: the number of series must not depend on what is deployed.
"""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Summary, disable_created_metrics
from prometheus_client.gc_collector import GCCollector
from prometheus_client.platform_collector import PlatformCollector
from prometheus_client.process_collector import ProcessCollector

disable_created_metrics()  # type: ignore[no-untyped-call]  # a third of the lines, which nobody reads

REGISTRY: Final = CollectorRegistry()
ProcessCollector(registry=REGISTRY)
PlatformCollector(registry=REGISTRY)
GCCollector(registry=REGISTRY)

_REQUEST_SECONDS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10)
_OPERATION_SECONDS: Final = (0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 900, 3600)

BUILD_INFO: Final = Gauge(
    "pilothouse_build_info", "Always 1; the labels tell what runs.", ["version", "helm", "part"], registry=REGISTRY
)
EVENT_LOOP_BLOCKED: Final = Gauge(
    "pilothouse_event_loop_blocked_seconds",
    "The longest time in the last minute for which the process answered nothing; 0 for parts that do not measure it.",
    registry=REGISTRY,
)
READY: Final = Gauge(
    "pilothouse_ready", "1 if the process can do its work, as /readyz says; the log says why not.", registry=REGISTRY
)
DATA_FOLDER_FREE: Final = Gauge(
    "pilothouse_data_folder_free_bytes", "What is free on the file system of the data folder.", registry=REGISTRY
)

HTTP_SECONDS: Final = Histogram(
    "http_server_request_duration_seconds",
    "Time from the head of a request to the end of its answer; event streams and waiting requests included.",
    ["http_request_method", "http_route"],
    buckets=_REQUEST_SECONDS,
    registry=REGISTRY,
)
HTTP_REQUESTS: Final = Counter(
    "http_server_requests",
    "Requests by status; 499: the client left before the answer. An empty route: none matched, or the gateway refused.",
    ["http_request_method", "http_route", "http_response_status_code"],
    registry=REGISTRY,
)
HTTP_ACTIVE: Final = Gauge("http_server_active_requests", "Requests that are being answered.", registry=REGISTRY)
AUTHENTICATIONS: Final = Counter(
    "pilothouse_authentications",
    "Requests that need credentials, by what they had (token, signature, none) and what came of it.",
    ["method", "result"],
    registry=REGISTRY,
)
THROTTLED: Final = Counter(
    "pilothouse_throttled_requests",
    "Requests answered 429 for their rate before anything was done for them, by what had too many: address, key (or "
    "token or session), user, login (log-ins of an address).",
    ["limit"],
    registry=REGISTRY,
)
AUDIT_EVENTS: Final = Counter(
    "pilothouse_audit_events",
    "Audited events that change nothing: refusals of rights, failed log-ins, reads of secret values.",
    ["outcome"],
    registry=REGISTRY,
)

OPERATIONS_ACCEPTED: Final = Counter(
    "pilothouse_operations_accepted", "Operations accepted by this process.", ["action"], registry=REGISTRY
)
OPERATIONS_ENDED: Final = Counter(
    "pilothouse_operations_ended",
    "Operations whose end this process wrote, by action and final state.",
    ["action", "state"],
    registry=REGISTRY,
)
OPERATION_SECONDS: Final = Histogram(
    "pilothouse_operation_duration_seconds",
    "Time from the acceptance of an operation to its end.",
    ["action"],
    buckets=_OPERATION_SECONDS,
    registry=REGISTRY,
)
QUEUE_SECONDS: Final = Histogram(
    "pilothouse_operation_queue_seconds",
    "Time from the acceptance of an operation to its first attempt.",
    buckets=_OPERATION_SECONDS,
    registry=REGISTRY,
)
ATTEMPTS: Final = Counter(
    "pilothouse_attempts",
    "Attempts by how they ended: the operation ended, was put back (retry, crashed), or was lost to another worker.",
    ["end"],
    registry=REGISTRY,
)
PREFLIGHT_REFUSALS: Final = Counter(
    "pilothouse_preflight_refusals",
    "Requests that the preflight refused before anything was written.",
    registry=REGISTRY,
)
UNLOCKS: Final = Counter(
    "pilothouse_unlocks", "Releases that a person unlocked for a writer that had died.", registry=REGISTRY
)
REPAIRS: Final = Counter(
    "pilothouse_repairs", "Second looks at releases, by result: done, postponed.", ["result"], registry=REGISTRY
)
LEASE_RENEWALS: Final = Counter(
    "pilothouse_lease_renewals", "Renewals of leases, by result: renewed, failed, lost.", ["result"], registry=REGISTRY
)
WEBHOOK_DELIVERIES: Final = Counter(
    "pilothouse_webhook_deliveries",
    "Messages to webhooks that this worker sent, by result: delivered, postponed (tried again later), given up.",
    ["result"],
    registry=REGISTRY,
)
WORKER_SLOTS: Final = Gauge(
    "pilothouse_worker_slots",
    "How many operations may work at a time in this worker; those that only wait for their cluster come on top.",
    registry=REGISTRY,
)
WORKER_OPERATIONS: Final = Gauge(
    "pilothouse_worker_operations", "Operations that this worker holds, working or waiting.", registry=REGISTRY
)

ENGINE_CHILDREN: Final = Gauge("pilothouse_engine_children", "Helm processes of this process.", registry=REGISTRY)
ENGINE_EXITS: Final = Counter(
    "pilothouse_engine_child_exits",
    "Helm processes that ended: idle or worn (retired), used too much memory (bloated), or in the middle (lost).",
    ["reason"],
    registry=REGISTRY,
)
ENGINE_CALL_SECONDS: Final = Histogram(
    "pilothouse_engine_call_duration_seconds",
    "Time of a call in a Helm process, without the wait for one.",
    ["call", "result"],
    buckets=_OPERATION_SECONDS,
    registry=REGISTRY,
)

CLUSTER_SECONDS: Final = Summary(
    "pilothouse_cluster_request_duration_seconds",
    "Requests of this process to API servers; those of Helm itself are not among them. Code 0: no answer.",
    ["server", "method", "code"],
    registry=REGISTRY,
)
INDEX_LISTS: Final = Counter(
    "pilothouse_index_lists",
    "Complete lists of a cluster's release Secrets: the first one, and those after a watch that could not go on.",
    registry=REGISTRY,
)


@asynccontextmanager
async def engine_call(call: str) -> AsyncIterator[None]:
    """Measure a call in a Helm process; its result is ``done``, or the class of the error."""
    began, result = time.monotonic(), "done"
    try:
        yield
    except BaseException as error:
        result = type(error).__name__
        raise
    finally:
        ENGINE_CALL_SECONDS.labels(call, result).observe(time.monotonic() - began)
