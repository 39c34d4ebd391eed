"""The chart that a command names: on this machine, then uploaded once per content, or one that was uploaded before."""

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlencode

import orjson
import typer

from pilothouse.cli.connection import client_of, cluster_of
from pilothouse.cli.exits import UsageError
from pilothouse.cli.terminal import echo
from pilothouse.errors import InvalidRequest, PilothouseError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pilothouse.cli.local_charts import PackedChart

#: Where charts come from that a command uploaded on its own; these are replaced when their folder has changed.
SOURCE: Final = "command line"
#: The codes of AlreadyExists and ChartReplaced.
_EXISTS: Final = "CCE.01409001"
_REPLACED: Final = "CCE.01409004"
_TRIES: Final = 5
#: No range, which Helm compares with no chart on this machine either.
_ONE_VERSION: Final = re.compile(r"v?\d+\.\d+\.\d+(?:[-+][\w.+-]*)?")
_ID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def send_with_chart(
    context: typer.Context, chart: str, send: "Callable[[dict[str, Any]], dict[str, Any]]", *, version: str = ""
) -> dict[str, Any]:
    """Call ``send`` with how a body names the chart, and return what it returns.

    A chart on this machine is uploaded first if the project has it not, and again if somebody put another in its place.
    """
    from pilothouse.cli.client import ServerRefused
    from pilothouse.cli.local_charts import find_local

    if (local := find_local(chart)) is None:
        return send(reference_of(context, chart, version=version))
    for tries_left in reversed(range(_TRIES)):
        overtaken = _EXISTS  # of the upload; to what is sent afterwards it says something else
        try:
            reference = _upload_once(context, local, version=version)
            overtaken = _REPLACED
            return send(reference)
        except ServerRefused as error:
            if error.code != overtaken:
                raise
            if not tries_left:
                raise PilothouseError(
                    f"{chart}: tried {_TRIES} times, and each time somebody uploaded another chart of the same name "
                    f"and version first; raise the version in Chart.yaml, or try again. The last answer: {error}"
                ) from error
    raise AssertionError("the last try returns or raises")


def reference_of(context: typer.Context, chart: str, *, version: str = "") -> dict[str, str]:
    """Return how a body names a chart that is not on this machine."""
    from pilothouse.cli.sources import is_of_source, source_reference

    if is_of_source(chart):
        return source_reference(context, chart, version=version)
    return {"id": uploaded_id(context, chart, version=version)}


def uploaded_id(context: typer.Context, chart: str, *, version: str = "") -> str:
    """Return the id of a chart given by name, name and version, or id; a name alone must have one version."""
    if _ID.fullmatch(chart):
        return chart
    name, _, named = chart.partition("@")
    found = _versions(context, name=name, version=named or version)
    if not found:
        others = ", ".join(f"{row['name']}@{row['version']}" for row in _versions(context, name=name)[:5])
        if others:
            exact = _ONE_VERSION.fullmatch(named or version)
            only = "" if exact else "; a range chooses versions of a source's chart only"
            only += _not_here(chart)
            raise InvalidRequest(
                f"chart {name!r} has no uploaded version {named or version!r}; there is {others}{only}"
            )
        hint = "'pilothouse chart list' shows them, ./NAME is a folder"
        raise InvalidRequest(f"no chart of this project is named {chart!r}{_not_here(chart)}; {hint}")
    if len(found) > 1:
        candidates = ", ".join(f"{row['name']}@{row['version']} ({row['id']})" for row in found)
        raise InvalidRequest(f"chart {name!r} has {len(found)} versions; name one of {candidates}")
    return str(found[0]["id"])


def _not_here(chart: str) -> str:
    from pathlib import Path

    if "@" in chart:
        return ""
    return ", and the folder of that name here has no Chart.yaml" if Path(chart).is_dir() else ", and no folder here"


def is_uploaded_by_deploying(context: typer.Context, chart: "PackedChart") -> bool:
    """Return whether the project has that name and version only because a command deployed a folder."""
    return any(row["source"] == SOURCE for row in _versions(context, name=chart.name, version=chart.version))


def _upload_once(context: typer.Context, path: "Path", *, version: str) -> dict[str, str]:
    """Upload the chart unless the project has the same; the digest holds off what somebody else puts in its place."""
    from pilothouse.cli.local_charts import packing, provenance_of

    with packing(path) as finish:
        import hashlib  # while the engine packs

        cluster_of(context)
        packed = finish()
    if _ONE_VERSION.fullmatch(version) and version.removeprefix("v") != packed.version.removeprefix("v"):
        raise UsageError(
            f"--version {version}: {path} is here, and is version {packed.version}; leave --version out to take it, or "
            f"name one that was uploaded as {packed.name}@{version}"
        )
    digest = hashlib.sha256(packed.content).hexdigest()
    found = _versions(context, name=packed.name, version=packed.version)
    same = next((row for row in found if row["digest"] == digest), None)
    if same is not None:
        if not same["signed_by"] and (provenance := provenance_of(path)):
            _add_provenance(context, packed, provenance)
        return {"id": same["id"], "digest": digest}
    if any(row["source"] != SOURCE for row in found):
        raise InvalidRequest(_ways_out(path, packed))
    parameters = {"override": bool(found), "skip_lint": True, "source": SOURCE}
    row, lines = client_of(context).send_chart(
        "POST",
        "/v2/charts",
        content=(f"{packed.name}.tgz", packed.content),
        parameters=orjson.dumps(parameters).decode(),
        provenance=provenance_of(path),
    )
    for line in lines:
        echo(line, err=True)
    return {"id": row["id"], "digest": digest}


def _add_provenance(context: typer.Context, packed: "PackedChart", provenance: str) -> None:
    """Send the provenance of an archive that the project has, if its keys verify uploads and the user may upload."""
    from pilothouse.cli.client import PROVENANCE_UNREAD, ServerRefused

    client = client_of(context)
    try:
        if not client.call("GET", "/api/v1/verification")["trusted"]:
            echo(PROVENANCE_UNREAD, err=True)
            return
        _, lines = client.send_chart(
            "POST",
            "/v2/charts",
            content=(f"{packed.name}.tgz", packed.content),
            parameters=orjson.dumps({"skip_lint": True}).decode(),
            provenance=provenance,
        )
    except ServerRefused as error:
        if error.code != _EXISTS and error.status != HTTPStatus.FORBIDDEN:
            raise
        return  # the archive may do without
    for line in lines:
        echo(line, err=True)


def _ways_out(path: "Path", packed: "PackedChart") -> str:
    """Return what can be done with a chart on this machine whose version the project has in another form."""
    import shlex

    own = f"{packed.version.partition('+')[0]}-mine"
    where, pack = shlex.quote(str(path)), ""
    if path.is_dir():
        pack = f", or packed with 'helm package {where} --version {own}' and installed from {packed.name}-{own}.tgz"
    return (
        f"{path}: the project has another chart {packed.name} {packed.version}, which somebody uploaded for all to "
        f"use, and keeps one of each version. Give yours a version of its own: in Chart.yaml{pack}. Or name the "
        f"project's, {packed.name}@{packed.version}. Or replace that, for everybody, with 'pilothouse chart upload "
        f"--override {where}'"
    )


def _versions(context: typer.Context, **wanted: str) -> list[dict[str, Any]]:
    query = urlencode({name: value for name, value in wanted.items() if value})
    found: list[dict[str, Any]] = client_of(context).call("GET", f"/api/v1/charts?{query}")
    return found
