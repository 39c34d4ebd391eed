"""The fault proxy as a test sees it; every method may be called from any thread."""

import base64
import json
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

import yaml
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy.engine import make_url

from tools.localcluster.credentials import Authority
from tools.localcluster.errors import LocalClusterError
from tools.localcluster.faults.flow import State
from tools.localcluster.faults.process import CERTIFICATE
from tools.localcluster.faults.rules import Exchange, Held, How, Rule
from tools.localcluster.ports import HOST

_ANSWER_SECONDS = 30.0


class FaultProxy:
    """A running proxy without listeners; made by ``fault_proxy``."""

    def __init__(self, folder: Path) -> None:
        self._control = str(folder / "control")
        self._authority = base64.b64encode((folder / "ca.crt").read_bytes()).decode()

    def kubernetes(self, kubeconfig: str, *, listener: str = "kubernetes") -> str:
        """Return a kubeconfig like this one that leads through the proxy, with the same credentials.

        Only the current context is kept; certificates and keys must be in the text.
        """
        document = yaml.safe_load(kubeconfig)
        current = document["current-context"]
        context = _named(document["contexts"], current)["context"]
        cluster = _named(document["clusters"], context["cluster"])["cluster"]
        user = _named(document["users"], context["user"])["user"]
        texts = {key: value for key, value in cluster.items() if isinstance(value, str)}
        port = self._ask("kubernetes", listener=listener, server=cluster["server"], cluster=texts, user=user)
        ours = {"server": f"https://{HOST}:{port}", "certificate-authority-data": self._authority}
        kept = {key: value for key, value in user.items() if not key.startswith("client-")}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": current,
                "contexts": [{"name": current, "context": context}],
                "clusters": [{"name": context["cluster"], "cluster": ours}],
                "users": [{"name": context["user"], "user": kept}],
            }
        )

    def postgres(self, url: str, *, listener: str = "postgres") -> str:
        """Return the URL of the same database through the proxy."""
        parsed = make_url(url).set(drivername="postgresql")
        place = conninfo_to_dict(parsed.render_as_string(hide_password=False))
        port = self._ask(
            "postgres", listener=listener, host=str(place.get("host") or HOST), port=int(place.get("port") or 5432)
        )
        through = parsed.set(host=HOST, port=port, query={})
        return through.render_as_string(hide_password=False)

    def arm(self, rule: Rule) -> None:
        """From now on the rule counts the requests that match it; a rule with an ``nth`` strikes once."""
        self._ask("arm", rule=asdict(rule))

    def disarm(self) -> None:
        """No rule is in force any more; what is held stays held."""
        self._ask("disarm")

    def clear(self, how: How = "pass") -> None:
        """No rule is in force any more, and what is held is released."""
        self._ask("clear", how=how)

    def wait_held(self, seconds: float) -> list[Held]:
        """Return what is frozen, once there is something, or nothing after ``seconds``."""
        found = self._ask("wait_held", seconds=seconds, answer_seconds=seconds + _ANSWER_SECONDS)
        return [Held(**{**one, "exchange": Exchange(**one["exchange"])}) for one in found]

    def release(self, held: Held, how: How = "pass") -> bool:
        """Lets a frozen request go on, or cuts its connection; False when it is not frozen any more.

        What passes reaches the API server also when its sender has died since.
        """
        return bool(self._ask("release", number=held.number, how=how))

    def flow(self, listener: str, state: State = "pass", *, latency: float = 0.0) -> None:
        """Control all that passes a listener: see the README."""
        self._ask("flow", listener=listener, state=state, latency=latency)

    def exchanges(self, *, after: int = 0) -> list[Exchange]:
        """Return what has passed or is under way, from the exchange after that number on."""
        return [Exchange(**one) for one in self._ask("exchanges", after=after)]

    def newest(self) -> int:
        """Return the number of the newest exchange; 0 if there was none."""
        return int(self._ask("newest"))

    def _ask(self, command: str, *, answer_seconds: float = _ANSWER_SECONDS, **fields: Any) -> Any:
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(answer_seconds)
            line.connect(self._control)
            line.sendall(json.dumps({"command": command, **fields}).encode() + b"\n")
            with line.makefile("rb") as stream:
                answer = json.loads(stream.readline())
        if "error" in answer:
            raise LocalClusterError(f"the fault proxy refused {command}: {answer['error']}")
        return answer["done"]


@contextmanager
def fault_proxy() -> Iterator[FaultProxy]:
    """Yield a proxy process that ends with this block, or with this process."""
    folder = Path(tempfile.mkdtemp(prefix="pilothouse-faults-"))
    process = None
    try:
        authority = Authority.new("pilothouse-faults")
        authority.save(folder, "ca")
        authority.issue(folder, CERTIFICATE)
        process = subprocess.Popen(
            [sys.executable, "-m", "tools.localcluster.faults.process", str(folder)],
            cwd=Path(__file__).parents[3],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is for its user, who needs it until the end
        )
        if process.stdout is None or process.stdout.readline() != b"ready\n":
            raise LocalClusterError("the fault proxy did not start")
        yield FaultProxy(folder)
    finally:
        if process is not None:
            process.communicate()
        shutil.rmtree(folder, ignore_errors=True)


def _named(entries: list[dict[str, Any]], name: str) -> dict[str, Any]:
    return next(entry for entry in entries if entry["name"] == name)
