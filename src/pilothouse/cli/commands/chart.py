"""``pilothouse chart …``: upload, list, show, update, delete and download charts of a running server."""

import hashlib
import re
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import quote

import orjson
import typer

from pilothouse.cli.chart_options import ChartVersion
from pilothouse.cli.charts import is_uploaded_by_deploying, reference_of, uploaded_id
from pilothouse.cli.commands import project as projects
from pilothouse.cli.completion import complete_charts, complete_sources
from pilothouse.cli.connection import client_of
from pilothouse.cli.downloads import save
from pilothouse.cli.exits import UsageError
from pilothouse.cli.groups import connected_group
from pilothouse.cli.local_charts import find_local, pack, provenance_of
from pilothouse.cli.output import As, Output, print_answer, print_rows
from pilothouse.cli.sources import source_of
from pilothouse.cli.terminal import echo, on_one_line
from pilothouse.errors import InvalidRequest

app = connected_group("Uploaded charts.")

_COLUMNS = ("id", "name", "version", "description", "update_at")
#: Of so many charts, the newest, who signed them is asked for.
_MOST_SIGNED = 500
_FILE_NAME = re.compile(r'filename="([A-Za-z0-9][A-Za-z0-9._+-]*)"')

ChartName = Annotated[
    str,
    typer.Argument(
        metavar="CHART",
        help="NAME, NAME@VERSION or id of the chart; NAME if it has one version.",
        autocompletion=complete_charts,
    ),
]
Archive = Annotated[str, typer.Argument(metavar="CHART", help="Folder of a chart, or archive made by 'helm package'.")]
SkipLint = Annotated[bool, typer.Option("--skip-lint", help="Do not run Helm's lint.")]
Visible = Annotated[bool | None, typer.Option("--visible/--hidden", help="Set whether the chart is visible.")]
Source = Annotated[str, typer.Option(help="Origin of the chart; stored with it.")]


@app.command("upload")
def upload(
    context: typer.Context,
    archive: Archive,
    *,
    override: Annotated[bool, typer.Option("--override", help="Replace a chart of that name and version.")] = False,
    skip_lint: SkipLint = False,
    visible: Visible = None,
    source: Source = "",
    output: As = Output.TABLE,
) -> None:
    """Upload a chart; name and version are those of its Chart.yaml. A provenance file beside it (.prov) is sent too.

    What 'pilothouse install' or 'upgrade' has uploaded of a folder is replaced, and kept from then on.
    """
    folder = Path(archive)
    replace = override or (folder.is_dir() and is_uploaded_by_deploying(context, pack(folder)))
    parameters = {"override": replace, "skip_lint": skip_lint, "visible": visible, "source": source}
    _print(_send(context, "POST", "/v2/charts", archive, parameters), output)


@app.command("list")
def list_all(context: typer.Context, output: As = Output.TABLE) -> None:
    """List the project's charts, newest first; with who signed them by a key that the project trusts.

    The source 'command line' is that of a folder that install, upgrade or plan has uploaded.
    """
    client = client_of(context)
    signers = {row["id"]: row["signed_by"] for row in client.call("GET", f"/api/v1/charts?limit={_MOST_SIGNED}")}
    rows = [{**row, "signed_by": signers.get(row["id"], "")} for row in client.call("GET", "/v2/charts")]
    more = [name for name in ("signed_by", "source") if any(row.get(name) for row in rows)]
    columns = (*_COLUMNS, *more)
    print_rows(rows, columns, output, least=("update_at", "description"))


@app.command("show")
def show(context: typer.Context, chart: ChartName, output: As = Output.TABLE) -> None:
    """Show one chart."""
    _print(client_of(context).call("GET", _path(context, chart)), output)


@app.command("update")
def update(
    context: typer.Context,
    chart: ChartName,
    archive: Archive,
    *,
    skip_lint: SkipLint = False,
    visible: Visible = None,
    source: Source = "",
    output: As = Output.TABLE,
) -> None:
    """Replace a chart's content, and with it its version. Releases made from it are not affected."""
    parameters = {"skip_lint": skip_lint, "visible": visible, "source": source}
    _print(_send(context, "PUT", _path(context, chart), archive, parameters), output)


@app.command("delete")
def delete(context: typer.Context, chart: ChartName, output: As = Output.TABLE) -> None:
    """Delete a chart. Releases made from it are not affected."""
    row = client_of(context).call("DELETE", _path(context, chart))
    if output is not Output.TABLE:
        print_answer(row, output)
    else:
        echo(f"chart {row['name']} {row['version']} was deleted; releases made from it are not affected")


@app.command("download")
def download(
    context: typer.Context,
    chart: ChartName,
    file: Annotated[
        Path | None, typer.Argument(help="Target file; default: NAME-VERSION.tgz in the current folder.")
    ] = None,
    *,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file if it exists.")] = False,
    output: As = Output.TABLE,
) -> None:
    """Download a chart's archive, byte for byte as it was uploaded."""
    response = client_of(context).get(_path(context, chart, "archive"))
    content = response.content
    found = _FILE_NAME.search(response.headers.get("content-disposition", ""))
    target = file or Path(found[1] if found else f"{chart}.tgz")
    try:
        save(target, content, replace=force)
    except FileExistsError:
        raise InvalidRequest(f"{target} exists; use another name, or --force") from None
    row = {"file": str(target), "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    print_rows([row], ("file", "size", "sha256"), output, single=True)


@app.command("push")
def push(
    context: typer.Context,
    chart: Annotated[
        str,
        typer.Argument(
            metavar="CHART",
            help="Uploaded chart, folder or archive on this machine, or SOURCE/NAME.",
            autocompletion=complete_charts,
        ),
    ],
    target: Annotated[
        str,
        typer.Argument(
            metavar="oci://…",
            help="Address of a source, which is a registry; or the source's name.",
            autocompletion=complete_sources,
        ),
    ],
    *,
    version: ChartVersion = "",
    replace: Annotated[
        bool, typer.Option("--replace", help="Put it in the place of another chart of that version.")
    ] = False,
    output: As = Output.TABLE,
) -> None:
    """Push a chart to a registry.

    The server does it, with the credentials of the source that has the address; of a folder or archive it keeps
    nothing. The provenance file beside an archive (ARCHIVE.prov) goes with it.

    Example: pilothouse chart push web@1.2.0 oci://registry.example.com/team
    """
    source = quote(source_of(context, target), safe="")
    if (local := find_local(chart)) is not None:
        if version:
            raise UsageError(
                f"--version: {chart} is on this machine and has the version of its Chart.yaml; leave it out"
            )
        row = _push_file(context, local, source, replace=replace)
    else:
        body = {"chart": reference_of(context, chart, version=version), "replace": replace}
        row = client_of(context).call("POST", f"/api/v1/sources/{source}/charts", body=body)
    if output is Output.TABLE:
        row = {**row, "pushed": "yes" if row["created"] else "no: the registry had it already, and nothing was sent"}
    print_rows([row], ("reference", "manifest_digest", "pushed"), output, single=True)


def _push_file(context: typer.Context, path: Path, source: str, *, replace: bool) -> dict[str, Any]:
    """Push what is on this machine; the server sends it on and keeps nothing of it."""
    packed = pack(path)
    row: dict[str, Any]
    row, _ = client_of(context).send_chart(
        "POST",
        f"/api/v1/sources/{source}/archives{'?replace=true' if replace else ''}",
        content=(f"{packed.name}.tgz", packed.content),
        provenance=provenance_of(path),
    )
    return row


@app.command("values")
def values(context: typer.Context, chart: ChartName, output: As = Output.TABLE) -> None:
    """Show a chart's default values, as YAML or as JSON."""
    found = client_of(context).call("GET", _path(context, chart, "values"))["values"]
    print_answer(found, Output.YAML if output is Output.TABLE else output)


@app.command("quota")
def quota(
    context: typer.Context,
    project: Annotated[
        str,
        typer.Option(
            envvar="PILOTHOUSE_PROJECT_ID", help="Name or id of the access key's project; default: the only one."
        ),
    ] = "",
    output: As = Output.TABLE,
) -> None:
    """Show the project's quota of chart versions and its usage."""
    project_id = projects.id_of(context, project) if project else _only_project(context)
    answer = client_of(context).call("GET", f"/v2/charts/{quote(project_id, safe='')}/quotas")
    print_rows(answer["quotas"]["resources"], ("type", "quota", "used"), output)


def _only_project(context: typer.Context) -> str:
    found = client_of(context).call("GET", "/v3/projects")["projects"]
    if len(found) != 1:
        raise UsageError(f"--project: the account has {len(found)} projects; name that of the access key")
    return str(found[0]["id"])


def _path(context: typer.Context, chart: str, *rest: str) -> str:
    return "/".join(["/v2/charts", quote(uploaded_id(context, chart), safe=""), *rest])


def _send(context: typer.Context, method: str, path: str, archive: str, parameters: dict[str, Any]) -> dict[str, Any]:
    file = Path(archive)
    try:
        content = pack(file).content if file.is_dir() else file.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {archive}: {error.strerror}") from error
    fields = {name: value for name, value in parameters.items() if value not in (None, "")}
    row: dict[str, Any]
    row, warnings = client_of(context).send_chart(
        method,
        path,
        content=(file.resolve().name, content),
        parameters=orjson.dumps(fields).decode(),
        provenance=provenance_of(file),
    )
    for warning in warnings:
        echo(on_one_line(str(warning)), err=True)
    return row


def _print(row: dict[str, Any], output: Output) -> None:
    print_rows([row], _COLUMNS, output, single=True)
