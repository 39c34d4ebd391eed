"""Connection of a command to its server."""

from pathlib import Path
from typing import Annotated

import typer


def connect(
    context: typer.Context,
    *,
    url: Annotated[str, typer.Option(envvar="PILOTHOUSE_URL", help="URL of the server.")] = "http://127.0.0.1:8440",
    access_key: Annotated[str, typer.Option(envvar="CLOUD_SDK_AK", help="Access key (AK).")] = "",
    secret_key: Annotated[
        str, typer.Option(envvar="CLOUD_SDK_SK", help="Secret key (SK); prefer the environment variable.")
    ] = "",
    token: Annotated[
        str,
        typer.Option(envvar="PILOTHOUSE_TOKEN", help="Token, preferred to an access key; prefer the variable."),
    ] = "",
    ca: Annotated[
        Path | None,
        typer.Option(envvar="PILOTHOUSE_CA", help="Certificate authority (PEM file) of an https server."),
    ] = None,
) -> None:
    """Read the options of every noun that talks to a server; its commands find the Client in ``context.obj``."""
    from pilothouse.cli.client import Client

    context.obj = Client(url, access_key=access_key, secret_key=secret_key, token=token, ca=ca)
