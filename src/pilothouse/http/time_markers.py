"""Markers of lists that are sorted by time: the time and the id of the last row that was seen."""

from datetime import UTC, datetime
from typing import Final

#: Near the ends of the calendar a time zone leads out of it.
_YEARS: Final = range(1970, 9999)


def write_time_marker(at: datetime, row_id: object) -> str:
    """Return the marker, which a query takes as it is: the ``+`` of an offset would be read as a blank."""
    return f"{at.astimezone(UTC).replace(tzinfo=None).isoformat()}Z/{row_id}"


def read_time_marker(marker: str) -> tuple[datetime, str] | None:
    """Return the time and the text of the id, which is not checked; None if there is no time with a zone."""
    moment, _, row_id = marker.partition("/")
    try:
        at = datetime.fromisoformat(moment)
    except ValueError:
        return None
    return (at, row_id) if at.tzinfo is not None and at.year in _YEARS else None
