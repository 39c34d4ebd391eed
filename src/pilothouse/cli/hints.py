"""Commands that a person is told to type: they act where this command acts, so that they can be pasted."""

import shlex
from typing import Final

import typer

from pilothouse.cli.groups import connection_options_of
from pilothouse.cli.wording import advise

#: Flags that say where a command acts. A context or variable that says it counts for the next command, too.
_PLACE: Final = {
    "server_url": "--url",
    "authority": "--ca",
    "named_context": "--context",
    "in_project": "--project",
    "in_cluster": "--cluster",
    "in_namespace": "-n",
}
#: Operations and plans are named by their ids, wherever they are; sources are in no cluster.
_BY_ID: Final = frozenset({"operation", "apply", "source"})
_WHERE: Final = ("_cluster", "_namespace")


def typed(context: typer.Context, *words: str) -> str:
    """Return the command line of these words with the flags of this one that say where it acts."""
    options = connection_options_of(context)
    place = [name for name in _PLACE if options.get(name) and not (words[0] in _BY_ID and name.endswith(_WHERE))]
    flags = (word for name in place for word in (_PLACE[name], str(options[name])))
    return shlex.join(["pilothouse", *(word for word in words if word), *flags])


def about_operation(context: typer.Context, operation_id: str) -> str:
    """Return what may be typed about an operation that is at work."""
    return advise(*(typed(context, "operation", verb, operation_id) for verb in ("follow", "cancel")))
