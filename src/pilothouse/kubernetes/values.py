"""Values of a release, merged as Helm does."""

from typing import Any


def merge_values(chart: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Merge the user's values over the chart's, as ``helm get values --all`` prints them.

    Maps are merged, everything else is replaced. A null removes a value of the chart, and is kept if the chart has
    none; nulls of the chart are removed. Source: Helm ``pkg/chart/common/util/coalesce.go``.
    """
    # At the top level, and only there, a null removes a null as well.
    kept = {key: value for key, value in own.items() if value is not None or key not in chart}
    return _overlay({key: value for key, value in chart.items() if own.get(key, ...) is not None}, kept)


def _overlay(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    merged = {key: _without_nulls(value) for key, value in below.items() if value is not None and key not in above}
    for key, value in above.items():
        under = below.get(key)
        if value is None and under is not None:
            continue
        merged[key] = _overlay(under, value) if isinstance(under, dict) and isinstance(value, dict) else value
    return merged


def _without_nulls(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    return {key: _without_nulls(inner) for key, inner in value.items() if inner is not None}
