"""The command line, one file per noun or command in ``commands``. Who runs a server needs only ``serve``.

A command is imported when it is named, and imports what it needs when it runs: ``--help``, completion and ``version``
must not load the server, which takes a second, nor the other commands.
"""

import errno
import os
import sys
from contextlib import suppress
from typing import Final, NoReturn

import typer

from pilothouse.cli.completion import COMPLETE
from pilothouse.cli.exits import ExitStatus, exit_status
from pilothouse.cli.groups import Entry, LazyGroup
from pilothouse.cli.terminal import echo
from pilothouse.errors import PilothouseError

#: What ends a write to a file for want of room.
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO})
COMMANDS: Final = {
    "install": Entry("install:install", "Install a chart as a release.", connected=True),
    "upgrade": Entry("upgrade:upgrade", "Upgrade a release to a chart and values.", connected=True),
    "rollback": Entry("rollback:rollback", "Roll a release back to an earlier revision.", connected=True),
    "uninstall": Entry("uninstall:uninstall", "Uninstall releases.", aliases=("del", "delete", "un"), connected=True),
    "test": Entry("test:run_tests", "Run the tests of a release.", connected=True),
    "list": Entry("list:list_releases", "List releases.", aliases=("ls",), connected=True),
    "status": Entry("status:show_status", "Show the status of a release.", connected=True),
    "history": Entry("history:show_history", "Show the revisions of a release.", aliases=("hist",), connected=True),
    "get": Entry("get", "Print parts of a release: values, manifest, notes, hooks."),
    "diff": Entry("diff:diff", "Compare two revisions of a release.", connected=True),
    "wait": Entry("wait:wait", "Wait until what is being done to a release has ended.", connected=True),
    "plan": Entry("plan:plan", "Show what an install or upgrade would change.", connected=True),
    "apply": Entry("apply:apply", "Apply a plan.", connected=True),
    "drift": Entry("drift:drift", "Compare a release with its objects in the cluster.", connected=True),
    "template": Entry("template:template", "Print the objects that a chart makes of values.", connected=True),
    "lint": Entry("lint:lint", "Find what is wrong with charts.", connected=True),
    "show": Entry("show", "Print parts of a chart: its definition, values, readme, CRDs.", aliases=("inspect",)),
    "search": Entry("search:search", "Search the charts of the project's sources.", connected=True),
    "pull": Entry("pull:pull", "Download a chart.", aliases=("fetch",), connected=True),
    "login": Entry("login:login", "Log in to a server, and keep the log-in as a context.", connected=True),
    "context": Entry("context", "Contexts: the servers that you are logged in to."),
    "env": Entry(
        "env:show_environment",
        "Show which server, project and cluster commands use here.",
        connected=True,
    ),
    "cluster": Entry("cluster", "Registered clusters."),
    "chart": Entry("chart", "Uploaded charts."),
    "source": Entry("source", "Chart sources: OCI registries and HTTP repositories."),
    "webhook": Entry("webhook", "Webhooks: other programs that are told what happens in the project."),
    "trust": Entry("trust", "Which charts the project takes, by who signed them."),
    "release": Entry("release", "Releases in the clusters."),
    "operation": Entry("operation", "Operations: installs, upgrades, rollbacks, uninstalls, tests."),
    "project": Entry("project", "Projects, which own clusters, charts and releases."),
    "user": Entry("user", "Users, their passwords and roles."),
    "group": Entry("group", "Groups of identity providers, and the roles that they give."),
    "policy": Entry("policy", "Policies: documents that allow and deny."),
    "accesskey": Entry("accesskey", "Access keys, with which programs sign their requests."),
    "token": Entry("token", "Tokens: log-ins that are valid for a day."),
    "audit": Entry("audit", "Audit log: who did what, from where, and the outcome."),
    "mcp": Entry("mcp:serve_assistant", "Let an assistant read and plan releases (MCP).", connected=True),
    "serve": Entry("server:serve", "Run the whole server on this machine."),
    "migrate": Entry("server:migrate", "Migrate the database to this version's schema."),
    "doctor": Entry("doctor:doctor", "Check everything that a server needs on this machine."),
    "backup": Entry("backup:backup", "Back up database, keys and authority to one file."),
    "restore": Entry("backup:restore", "Restore a backup into an empty database."),
    "key": Entry("key", "Master keys, which encrypt the secrets in the database."),
    "completion": Entry("completion:completion", "Print the completion script of a shell."),
    "man": Entry("man:man", "Print the manual page."),
    "version": Entry("version:version", "Print the version."),
    "prepare": Entry("server:prepare", hidden=True),
    "api": Entry("server:api", hidden=True),
    "worker": Entry("server:worker", hidden=True),
    "observer": Entry("server:observer", hidden=True),
}


class _Commands(LazyGroup):
    """All commands."""

    entries = COMMANDS


app = typer.Typer(
    name="pilothouse",
    help="A Helm release server that implements Huawei Cloud CCE's chart and release API, and its command line.",
    cls=_Commands,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    add_completion=False,
    rich_markup_mode=None,  # what draws boxes takes 60 ms to load
    pretty_exceptions_enable=False,
)


@app.callback()
def _root() -> None:
    """Make the program a group: its commands are in ``COMMANDS``."""


def main() -> None:
    """Run the command line; a known error ends with its message and its status, never with a traceback."""
    if COMPLETE in os.environ:
        from typer.completion import completion_init  # type: ignore[attr-defined]  # typer does not list it

        completion_init()
    try:
        app(prog_name="pilothouse")
    except PilothouseError as error:
        echo(f"pilothouse: {error}", err=True)
        sys.exit(exit_status(error))
    except OSError as error:
        if error.errno not in _FULL:
            raise
        _end_of_room(error)


def _end_of_room(error: OSError) -> NoReturn:
    """End because nothing more can be written, to standard output in most cases."""
    with suppress(OSError):
        echo(f"pilothouse: cannot write {error.filename or 'the output'}: {error.strerror}", err=True)
    # what standard output still holds would be tried again at the end, with a traceback
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    sys.exit(ExitStatus.FAILED)
