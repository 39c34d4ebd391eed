"""Contexts: servers that a person is logged in to, with credentials, in a file of mode 0600 as in a kubeconfig."""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

import orjson

from pilothouse.cli.terminal import echo
from pilothouse.errors import InvalidRequest


@dataclass(kw_only=True)
class Context:
    """A server with credentials for it and defaults; ``ca`` is the text of the only authorities that are trusted.

    ``provider`` is the identity provider at which a person logged in from the terminal.
    ``project_id`` is that of ``project`` if an access key has to say it with each request; ``project_tokens`` holds the
    tokens that ``--project`` exchanged for the log-in, by project.
    """

    name: str
    url: str
    ca: str = ""
    user: str = ""
    domain: str = ""
    provider: str = ""
    token: str = ""
    expires_at: str = ""
    access_key: str = ""
    secret_key: str = ""
    project: str = ""
    project_id: str = ""
    cluster: str = ""
    namespace: str = ""
    project_tokens: dict[str, str] = field(default_factory=dict)


@dataclass
class Contexts:
    """The file: all contexts, and the name of the one that commands use."""

    current: str = ""
    contexts: list[Context] = field(default_factory=list)

    def find(self, name: str) -> Context | None:
        """Return the context of this name."""
        return next((context for context in self.contexts if context.name == name), None)

    def get(self, name: str) -> Context:
        """Return the context of this name; raise InvalidRequest if there is none."""
        found = self.find(name)
        if found is None:
            known = ", ".join(sorted(context.name for context in self.contexts))
            raise InvalidRequest(
                f"there is no context {name!r}; "
                + (f"there are: {known}" if known else "'pilothouse login URL' makes the first one")
            )
        return found

    def put(self, context: Context) -> None:
        """Add a context, in place of one of the same name."""
        self.contexts = [*(other for other in self.contexts if other.name != context.name), context]


#: Variables that count before the current context, and what of it.
_OVERRIDES: Final = {
    "PILOTHOUSE_CONTEXT": "name",
    "PILOTHOUSE_URL": "url",
    "PILOTHOUSE_TOKEN": "token",
    "PILOTHOUSE_PROJECT_ID": "project",
    "PILOTHOUSE_CLUSTER": "cluster",
    "PILOTHOUSE_NAMESPACE": "namespace",
}


def tell_overrides(chosen: Context) -> None:
    """Say which variables count before what the current context says."""
    given = {variable: os.environ.get(variable, "") for variable in _OVERRIDES}
    differing = [name for name, value in given.items() if value and value != getattr(chosen, _OVERRIDES[name])]
    if differing:
        shown = ", ".join(name if name == "PILOTHOUSE_TOKEN" else f"{name}={given[name]}" for name in differing)
        echo(
            f"but here not: {shown} is set, and counts before the current context; unset it, or type --context "
            f"{shlex.quote(chosen.name)} with each command",
            err=True,
        )


def contexts_file() -> Path:
    """Return where the contexts are stored: PILOTHOUSE_CONTEXTS, else in the user's folder for configuration."""
    if path := os.environ.get("PILOTHOUSE_CONTEXTS"):
        return Path(path)
    base = os.environ.get("XDG_CONFIG_HOME") or str(Path.home() / ".config")
    return Path(base) / "pilothouse" / "contexts.json"


def read_contexts() -> Contexts:
    """Return the stored contexts, none if there is no file; raise InvalidRequest if others may read it."""
    path = contexts_file()
    try:
        with path.open("rb") as file:
            exposed = os.fstat(file.fileno()).st_mode & 0o077
            content = file.read()
    except FileNotFoundError:
        return Contexts()
    except OSError as error:
        raise InvalidRequest(f"cannot read the contexts in {path}: {error.strerror}") from error
    if exposed:
        raise InvalidRequest(f"{path} holds credentials and other users may read or change it: run 'chmod 600 {path}'")
    try:
        return _decode(orjson.loads(content))
    except (orjson.JSONDecodeError, TypeError, KeyError, AttributeError) as error:
        raise InvalidRequest(f"{path} is not a file of contexts: {error}; remove it and log in again") from error


def _decode(stored: dict[str, Any]) -> Contexts:
    """Return what the file says; what a later version added to it is passed over."""
    known = {field.name for field in fields(Context)}
    contexts = [Context(**{name: entry[name] for name in known & entry.keys()}) for entry in stored["contexts"]]
    wrong = [
        f"contexts[{at}].{name}"
        for at, entry in enumerate(contexts)
        for name, value in vars(entry).items()
        if not isinstance(value, dict if name == "project_tokens" else str)
    ]
    if wrong:
        raise TypeError(f"wrong type: {', '.join(wrong)}")
    return Contexts(str(stored["current"]), contexts)


@contextmanager
def edited_contexts() -> Iterator[Contexts]:
    """Yield the contexts to change, and replace the file in one step afterwards; two commands take turns."""
    from pilothouse.files import locked, write_file

    path = contexts_file()
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(path.with_name(f"{path.name}.lock")):
            contexts = read_contexts()
            yield contexts
            write_file(path, orjson.dumps(contexts, option=orjson.OPT_INDENT_2))
    except OSError as error:
        raise InvalidRequest(f"cannot write the contexts to {path}: {error.strerror}") from error
