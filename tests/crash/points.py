"""The points in an operation's life: found, not listed.

One undisturbed run of an action shows every request to the API server and every statement that changes the database,
by whom and in which order. Before and after each of them is a point. So the points follow the code: a new request or a
new commit is a new point by itself.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tests.crash.deployment import CLUSTER, Deployment
from tools.localcluster.faults.rules import Exchange, Rule, When

Who = Literal["api", "worker", "child"]

#: What has nothing to do with one operation: housekeeping, and questions about rights, whose answers are kept.
_IGNORED = (
    "DELETE operations",
    "DELETE repairs",
    "repairs(lease_until)",
    "selfsubjectaccessreviews",
    "chart_archives",
    "cluster_watches",
    "release_index",
    "tokens",
    "locks",
)
READS = frozenset({"get", "list", "watch"})
#: Written only when an operation lasts; an undisturbed run has other ones than the next.
_PROGRESS = "INSERT operation_events"


@dataclass(frozen=True)
class Point:
    """Before (``request``) or after (``answer``) the nth request of a kind by the API, a worker or an engine child."""

    who: Who
    listener: str
    verb: str
    resource: str
    nth: int
    when: When

    def __str__(self) -> str:
        side = "before" if self.when == "request" else "after"
        what = f"{self.verb} {self.resource}" if self.listener == CLUSTER else self.resource
        return f"{side} {self.who}'s {what}" + (f" #{self.nth}" if self.nth > 1 else "")

    @property
    def is_childs_write(self) -> bool:
        """Whether an engine child changes the cluster there."""
        return self.who == "child" and self.verb not in READS

    @property
    def is_workers_write(self) -> bool:
        """Whether a worker itself changes the cluster there."""
        return self.who == "worker" and self.listener == CLUSTER and self.verb not in READS

    @property
    def kind(self) -> str:
        """A coarser name: points of one kind are alike enough that one of them stands for all."""
        return f"{self.who}/{self.listener}/{self.when}"

    def rule(self, deployment: Deployment, *, only: Sequence[int] = ()) -> Rule:
        """Freezes that request; of the workers and their children count ``only`` these workers', if any are named.

        A child is known by its parent: cancelling ends one child and begins another.
        """
        workers = tuple(one.pid for one in deployment.workers if not only or one.pid in only)
        return Rule(
            action="freeze",
            listener=self.listener,
            verb=self.verb,
            resource=_literal(self.resource),
            nth=self.nth,
            when=self.when,
            changing=True,
            pids=(deployment.member("api").pid,) if self.who == "api" else workers if self.who == "worker" else (),
            parents=workers if self.who == "child" else (),
        )


def where_to_lose(points: Sequence[Point]) -> list[Point]:
    """Return where a worker can be lost so that there is something to recover from; not every cancel has a child."""
    return [one for one in points if one.is_childs_write] or [one for one in points if one.is_workers_write]


def find_points(deployment: Deployment, exchanges: Sequence[Exchange]) -> list[Point]:
    """Two points for each exchange that belongs to operations, in the order in which they came up.

    A statement that is also sent in vain, again and again (take, sweep), counts only where it changed something, and
    before it there is no point. Nor is there one at the statements of a transaction: its COMMIT counts.
    """
    commits = {(one.pid, f"{one.resource.removeprefix('COMMIT ')}, ") for one in exchanges if one.verb == "COMMIT"}
    idle = {one.resource for one in exchanges if one.rows == 0}
    counted: Counter[tuple[str, ...]] = Counter()
    found = []
    for exchange in exchanges:
        who = _who(deployment, exchange)
        if who is None or exchange.rows == 0 or any(word in exchange.resource for word in _IGNORED):
            continue
        if exchange.resource == _PROGRESS or _is_within(exchange, commits):
            continue
        key = (who, exchange.listener, exchange.verb, exchange.resource)
        counted[key] += 1
        if counted[key] > 1 and "operations(lease_until)" in exchange.resource:
            continue
        sides: list[When] = ["request", "answer"]
        if exchange.verb == "watch":
            sides.remove("answer")
        if exchange.resource in idle and exchange.verb != "COMMIT":
            sides.remove("request")
        found += [Point(who, exchange.listener, exchange.verb, exchange.resource, counted[key], when) for when in sides]
    return found


def _who(deployment: Deployment, exchange: Exchange) -> Who | None:
    if exchange.pid == deployment.member("api").pid:
        return "api"
    workers = {one.pid for one in deployment.workers}
    if exchange.pid in workers:
        return "worker"
    return "child" if exchange.parent in workers else None


def _is_within(exchange: Exchange, commits: set[tuple[int, str]]) -> bool:
    if exchange.verb == "COMMIT" or exchange.listener == CLUSTER:
        return False
    return any(pid == exchange.pid and f"{exchange.resource}, " in statements for pid, statements in commits)


def _literal(text: str) -> str:
    """Return the text as a pattern that matches itself only."""
    return text.replace("[", "[[]").replace("*", "[*]").replace("?", "[?]")
