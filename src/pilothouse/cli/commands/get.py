"""``pilothouse get …``: what Helm stored of a release, as ``helm get`` prints it."""

from collections.abc import Iterator
from typing import Annotated, Any, Final

import typer

from pilothouse.cli.commands.list import time_of
from pilothouse.cli.commands.status import signer_of, source_of
from pilothouse.cli.connection import client_of
from pilothouse.cli.groups import connected_group
from pilothouse.cli.output import As, Output, print_answer, print_lines, print_rows, yaml_of
from pilothouse.cli.releases import Name, Revision, release_path
from pilothouse.cli.terminal import echo, on_one_line

app = connected_group("Print parts of a release: values, manifest, notes, hooks.")

_RESOURCES: Final = ("OBJECT", "READY", "HEALTH", "MESSAGE")


@app.command("values")
def values(
    context: typer.Context,
    name: Name,
    *,
    everything: Annotated[
        bool, typer.Option("--all", "-a", help="Print the values that the templates saw: yours and the chart's.")
    ] = False,
    revision: Revision = None,
    output: As = Output.TABLE,
) -> None:
    """Print the values that were given to a release.

    Example: pilothouse get values web -n prod -o yaml > values.yaml
    """
    found = _part(context, name, "values", revision, layer="computed" if everything else "user")["values"]
    found = in_helms_order(found)
    if output is Output.TABLE:
        echo(f"{'COMPUTED' if everything else 'USER-SUPPLIED'} VALUES:\n{yaml_of(found)}".rstrip())
    else:
        print_answer(found, output)


@app.command("manifest")
def manifest(context: typer.Context, name: Name, revision: Revision = None, output: As = Output.TABLE) -> None:
    """Print the objects of a release, without its hooks."""
    found = _part(context, name, "manifest", revision)
    _print(found["manifest"], found, output)


@app.command("notes")
def notes(context: typer.Context, name: Name, revision: Revision = None, output: As = Output.TABLE) -> None:
    """Print the notes of a release."""
    found = _part(context, name, "notes", revision)
    _print(f"NOTES:\n{found['notes']}", found, output)


@app.command("hooks")
def hooks(context: typer.Context, name: Name, revision: Revision = None, output: As = Output.TABLE) -> None:
    """Print the hooks of a release."""
    found = _part(context, name, "hooks", revision)
    _print(_hooks(found), found, output)


@app.command("metadata")
def metadata(context: typer.Context, name: Name, revision: Revision = None, output: As = Output.TABLE) -> None:
    """Print name, chart, revision and labels of a release."""
    found = client_of(context).call("GET", release_path(context, name, revision=revision))
    of_helm = {
        "chart": found["chart_name"],
        "version": found["chart_version"],
        "appVersion": found["app_version"],
        "deployedAt": found["updated_at"],
    }
    _print(_metadata(found), {**found, **of_helm}, output)


@app.command("resources")
def resources(context: typer.Context, name: Name, output: As = Output.TABLE) -> None:
    """Print the live objects of a release, each with what was made for it. Read from the cluster now."""
    found = client_of(context).call("GET", release_path(context, name, "resources"))
    if output is not Output.TABLE:
        print_answer(found, output)
        return
    print_rows(list(_tree(found["objects"])), _RESOURCES, output)
    print_lines(f"not looked at: {on_one_line(problem)}" for problem in found["problems"])


@app.command("all")
def everything_of(context: typer.Context, name: Name, revision: Revision = None, output: As = Output.TABLE) -> None:
    """Print all of this about a release."""
    release = client_of(context).call("GET", release_path(context, name, revision=revision))
    number = release["revision"] or None  # of all parts the same, whatever is deployed meanwhile
    user, computed = (
        in_helms_order(_part(context, name, "values", number, layer=layer)["values"]) for layer in ("user", "computed")
    )
    found_hooks = _part(context, name, "hooks", number)
    texts = {part: _part(context, name, part, number)[part] for part in ("manifest", "notes")}
    answer = {**release, "values": user, "computed_values": computed, "hooks": found_hooks["hooks"], **texts}
    sections = [
        _metadata(release),
        f"USER-SUPPLIED VALUES:\n{yaml_of(user)}",
        f"COMPUTED VALUES:\n{yaml_of(computed)}",
        f"HOOKS:\n{_hooks(found_hooks)}",
        f"MANIFEST:\n{texts['manifest']}",
        f"NOTES:\n{texts['notes']}",
    ]
    _print("\n".join(f"{section.rstrip()}\n" for section in sections), answer, output)


def _part(context: typer.Context, name: str, part: str, revision: int | None, **query: str) -> dict[str, Any]:
    found: dict[str, Any] = client_of(context).call(
        "GET", release_path(context, name, part, revision=revision, **query)
    )
    return found


def _print(text: str, answer: object, output: Output) -> None:
    if output is Output.TABLE:
        echo(text.rstrip("\n"))
    else:
        print_answer(answer, output)


def in_helms_order(values: Any) -> Any:
    """Return the values with their keys sorted, at every depth, as Helm prints them."""
    if isinstance(values, list):
        return [in_helms_order(value) for value in values]
    return {key: in_helms_order(values[key]) for key in sorted(values)} if isinstance(values, dict) else values


def _tree(objects: list[dict[str, Any]], indent: str = "") -> Iterator[dict[str, Any]]:
    """Yield a row per object, what was made for it below it."""
    for obj in objects:
        yield {
            "OBJECT": f"{indent}{obj['kind']}/{obj['name']}",
            "READY": "" if obj["wanted"] is None else f"{obj['ready'] or 0}/{obj['wanted']}",
            "HEALTH": obj["health"],
            "MESSAGE": obj["message"],
        }
        yield from _tree(obj["children"], f"{indent}  ")


def _hooks(found: dict[str, Any]) -> str:
    return "".join(f"---\n# Source: {hook['path']}\n{hook['manifest']}\n" for hook in found["hooks"])


def _metadata(found: dict[str, Any]) -> str:
    labels = ",".join(f"{key}={value}" for key, value in sorted(found["labels"].items()))
    fields = {
        "NAME": found["name"],
        "CHART": found["chart_name"],
        "VERSION": found["chart_version"],
        "APP_VERSION": found["app_version"],
        "LABELS": labels,
        "CLUSTER": found["cluster_name"],
        "NAMESPACE": found["namespace"],
        "REVISION": found["revision"],
        "STATUS": found["status"],
        "DEPLOYED_AT": time_of(found["updated_at"]),
        **({"SOURCE": source_of(found)} if found["source"] else {}),
        **({"CHART_DIGEST": f"sha256:{found['chart_digest']}"} if found["chart_digest"] else {}),
        **({"VERIFIED": signer_of(found["verification"])} if found["verification"] else {}),
    }
    return "\n".join(f"{name}: {value}" for name, value in fields.items())
