"""``make docs``: writes docs/reference/metrics.md from the metrics themselves; a test compares them."""

import sys
from collections.abc import Iterator
from pathlib import Path

from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.metrics_core import Metric

from pilothouse import metrics
from pilothouse.services.metrics import describe

PAGE = Path(__file__).resolve().parent.parent / "docs" / "reference" / "metrics.md"
_HEAD = """\
# Metrics

This page is generated from the code by `make docs`. How to switch them on:
[operations.md](../operations.md#monitoring).
A counter's samples end in `_total`; histograms and summaries have `_count` and `_sum`, histograms also `_bucket`.
Every process also has the `process_` and `python_` metrics of the Prometheus client.

"""


def main() -> int:
    """Write the page."""
    PAGE.parent.mkdir(exist_ok=True)
    PAGE.write_text(page())
    print(f"wrote {PAGE}")
    return 0


def page() -> str:
    """Return the page as it belongs in docs/reference/metrics.md."""
    parts = [_HEAD, "## Counted by each process\n"]
    parts += [_table(_row(_described(each), each._labelnames) for each in _counted())]  # noqa: SLF001 (no other way)
    parts += ["\n## Read from the database\n\nThe API reports them; every API process says the same.\n"]
    parts += [_table(_row(metric, labels) for metric, labels in describe())]
    return "\n".join(parts)


def names() -> set[str]:
    """Return the names of all samples that a process may report."""
    return {
        *(name for each in _counted() for name in _samples(_described(each))),
        *(metric.name for metric, _ in describe()),
        "pilothouse_database_up",
        "up",
    }


def _counted() -> list[MetricWrapperBase]:
    return [each for each in vars(metrics).values() if isinstance(each, MetricWrapperBase)]


def _described(counted: MetricWrapperBase) -> Metric:
    return next(iter(counted.describe()))


def _samples(metric: Metric) -> Iterator[str]:
    suffixes = {
        "counter": ("_total",),
        "histogram": ("_bucket", "_count", "_sum"),
        "summary": ("_count", "_sum"),
    }
    return (metric.name + suffix for suffix in suffixes.get(metric.type, ("",)))


def _row(metric: Metric, labels: tuple[str, ...]) -> str:
    named = ", ".join(f"`{label}`" for label in labels)
    name = metric.name + ("_total" if metric.type == "counter" else "")
    return f"| `{name}` | {metric.type} | {named} | {metric.documentation} |"


def _table(rows: Iterator[str]) -> str:
    return "\n".join(["| name | type | labels | meaning |", "|---|---|---|---|", *rows])


if __name__ == "__main__":
    sys.exit(main())
