"""Checks of a cluster that is registered, or whose credentials are replaced, before anything is stored."""

import re
from typing import Final

from pilothouse.errors import InvalidArgument, InvalidRequest
from pilothouse.kubernetes.kubeconfig import Kubeconfig
from pilothouse.store import clusters as store

_NAME: Final = re.compile(r"[a-z]([-a-z0-9]{0,126}[a-z0-9])?")


def check_name(name: str) -> None:
    """Raise InvalidRequest if the text may not name a cluster."""
    if not _NAME.fullmatch(name):
        raise InvalidArgument(
            f"name: {name!a} is not a cluster name: a lower-case letter, then lower-case letters, digits and '-', "
            "ending in a letter or digit, at most 128 characters"
        )


def find_difference(known: store.ClusterRow, new: Kubeconfig, identity: str, *, forced: bool) -> str:
    """Return why the kubeconfig may be another cluster's, which is InvalidRequest if not ``forced``; empty if not."""
    difference = ""
    if known.identity and identity:
        if known.identity != identity:
            difference = "it is another cluster's, whose namespace kube-system has other uid"
    elif known.server != new.server:
        difference = (
            f"its server is {new.server} and was {known.server}, and the accounts may not read the clusters' ids"
        )
    if difference and not forced:
        raise InvalidRequest(
            f"kubeconfig: {difference}; its releases would be another cluster's: register that beside this one, or "
            "send force=true (--force) if it is the same"
        )
    return difference
