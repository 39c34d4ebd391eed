"""``pilothouse mcp``: releases for assistants, by the Model Context Protocol."""

import typer

from pilothouse.cli.connection import session_of
from pilothouse.cli.exits import UsageError


def serve_assistant(context: typer.Context) -> None:
    """Let an assistant read and plan releases (MCP). It uses standard input and output, and has your rights.

    Example, for a client's configuration: {"command": "pilothouse", "args": ["mcp", "--context", "prod"]}
    """
    try:
        from pilothouse.cli.mcp_tools import build_server
    except ModuleNotFoundError as error:
        if not (error.name or "").startswith("mcp"):
            raise
        raise UsageError("the package mcp is not installed: install pilothouse[mcp]") from error
    build_server(session_of(context)).run("stdio")
