"""How a command reaches the server it speaks to."""

from pathlib import Path
from typing import Annotated

import typer


def connect(
    context: typer.Context,
    *,
    url: Annotated[str, typer.Option(envvar="PILOTHOUSE_URL", help="The server.")] = "http://127.0.0.1:8440",
    access_key: Annotated[str, typer.Option(envvar="CLOUD_SDK_AK", help="Access key (AK).")] = "",
    secret_key: Annotated[
        str, typer.Option(envvar="CLOUD_SDK_SK", help="Secret key (SK); better given by the environment.")
    ] = "",
    token: Annotated[
        str,
        typer.Option(envvar="PILOTHOUSE_TOKEN", help="Token, used before an access key; better by the environment."),
    ] = "",
    ca: Annotated[
        Path | None,
        typer.Option(envvar="PILOTHOUSE_CA", help="Authority (PEM file) that an https server is trusted by."),
    ] = None,
) -> None:
    """The options of every noun that talks to a server; its commands find the Client in ``context.obj``."""
    from pilothouse.cli.client import Client

    context.obj = Client(url, access_key=access_key, secret_key=secret_key, token=token, ca=ca)
