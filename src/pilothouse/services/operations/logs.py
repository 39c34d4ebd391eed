"""Logs of containers in what is kept of an operation: for callers who may read logs, and for no others."""

from typing import Final

import orjson

from pilothouse.auth.policy import READ_LOGS
from pilothouse.services.identity.bootstrap import Caller
from pilothouse.store.operations import OperationRow

_WITHHELD: Final = f"lines of logs: to see them takes {READ_LOGS}"


def sees_logs(caller: Caller, row: OperationRow) -> bool:
    """Return True if the caller may read logs where the operation is."""
    return caller.at(row.cluster_id, row.namespace).may(READ_LOGS)


def without_logs(found: str) -> str:
    """Return the evidence, a JSON object, without the lines of logs in it, and with a word of what is missing.

    Of evidence that is damaged nothing is left.
    """
    try:
        document, had = orjson.loads(found), False
        for pod in document.get("pods") or ():
            for container in pod.get("containers") or ():
                had = had or bool(container.get("log"))
                container["log"] = []
        if had:
            document["missing"] = [*(document.get("missing") or ()), _WITHHELD]
    except (ValueError, TypeError, AttributeError):
        return ""
    return orjson.dumps(document).decode()
