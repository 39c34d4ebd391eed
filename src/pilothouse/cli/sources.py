"""Charts of sources that a command names: ``SOURCE/NAME``, or ``oci://…`` below the address of a source."""

import re
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import typer

from pilothouse.cli.connection import client_of
from pilothouse.cli.exits import UsageError
from pilothouse.errors import InvalidRequest

OCI: Final = "oci://"
_VERSION: Final = re.compile(r"([^:@]*)([:@]?)(.*)", re.DOTALL)


def is_of_source(chart: str) -> bool:
    """Return whether CHART names one of a source; a path on this machine begins with a dot, or exists."""
    return "/" in chart


def source_reference(context: typer.Context, chart: str, *, version: str = "") -> dict[str, str]:
    """Return how a body names the chart; raise InvalidRequest if no source has such an address.

    A version follows a colon, as in tags, or an at sign, as in the names of uploaded charts: in no name is either.
    """
    place, _, last = chart.rstrip("/").rpartition("/")
    name, separator, named = _VERSION.match(last).groups()  # type: ignore[union-attr]  # it matches every text
    version_range = named or version
    if "sha256:" in named:
        raise UsageError(f"{chart}: name a version, {place}/{name}:VERSION; its digest is kept with what is chosen")
    if separator and version and named != version:
        raise UsageError(f"{chart}: --version {version} is another version; give one of them")
    source = _find_source(context, place, chart=name) if chart.startswith(OCI) else place
    if "/" in source:
        raise UsageError(
            f"{chart}: a chart of a source is SOURCE/NAME, where the source has the address of the chart's folder; a "
            "path on this machine begins with ./"
        )
    return {"source": source, "name": name, **({"version": version_range} if version_range else {})}


def source_of(context: typer.Context, target: str) -> str:
    """Return the source of that address, by its id, or of that name; raise InvalidRequest for another address."""
    if "://" not in target and "/" in target:
        raise UsageError(f"{target!r} is not the name of a source ('pilothouse source list')")
    return _find_source(context, target.rstrip("/")) if "://" in target else target


def pulled_id(context: typer.Context, chart: str, *, version: str = "") -> str:
    """Return the id of the chart, which the server pulls if it has it not."""
    reference = source_reference(context, chart, version=version)
    parts = (reference["source"], "charts", reference["name"], reference.get("version") or "*")
    path = "/".join(quote(part, safe="") for part in parts)
    return str(client_of(context).call("GET", f"/api/v1/sources/{path}")["chart_id"])


def read_text(file: Path, option: str) -> str:
    """Return the text of keys or certificates in a file; raise UsageError if it is none."""
    try:
        return file.read_text("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{option}: {file} is not a text, such as PEM or what 'gpg --armor' exports") from error


def _find_source(context: typer.Context, url: str, *, chart: str = "") -> str:
    """Return the id of the only source with that address; ``chart``: the name of what is wanted of it."""
    rows: list[dict[str, Any]] = client_of(context).call("GET", "/api/v1/sources")
    found = [row for row in rows if row["url"] == url]
    if len(found) > 1:
        names = ", ".join(row["name"] for row in found)
        way = f", as {found[0]['name']}/{chart}" if chart else ""
        raise InvalidRequest(f"{len(found)} sources of this project have the address {url}: name one of {names}{way}")
    if found:
        return str(found[0]["id"])
    above = [row for row in rows if url.startswith(f"{row['url']}/")]
    if above and not chart:  # such as a chart's own address
        nearest = max(above, key=lambda row: len(row["url"]))
        raise InvalidRequest(
            f"no source of this project has the address {url}; charts of source {nearest['name']} lie in "
            f"{nearest['url']}, each under its own name: name that"
        )
    raise InvalidRequest(
        f"no source of this project has the address {url}; type 'pilothouse source add NAME {url}', or name "
        "another source ('pilothouse source list')"
    )
