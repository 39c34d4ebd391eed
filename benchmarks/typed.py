"""What a person waits for at the prompt: the command line against ``helm``, each a new process.

Python's own start is a figure, too: no command can be faster.
"""

import asyncio
import base64
import gzip
import io
import json
import os
import statistics
import subprocess
import sys
import tarfile
import time
from pathlib import Path
from typing import Any

from benchmarks.figures import Figure
from benchmarks.place import Place
from pilothouse.kubernetes.addresses import Addresses
from pilothouse.kubernetes.kubeconfig import sanitise
from pilothouse.kubernetes.transport import Transport
from pilothouse.settings import ClusterSettings
from tests.support.charts import web_chart

PAIRS = 20
FEW, MANY = 100, 1_000
_AT_ONCE = 20
_LARGEST = 1 << 20


async def typed(place: Place) -> list[Figure]:
    return [*await _starts(place), *await _upgrades(place), *await _lists(place)]


async def _starts(place: Place) -> list[Figure]:
    python = [_elapsed(place, [sys.executable, "-c", "pass"]) for _ in range(PAIRS)]
    short = [_elapsed(place, _ours("--help")) for _ in range(PAIRS)]
    helps = [_elapsed(place, _ours("upgrade", "--help")) for _ in range(PAIRS)]
    return [
        Figure("python -c pass", tuple(python)),
        Figure("pilothouse --help", tuple(short), target=150),
        Figure("pilothouse upgrade --help", tuple(helps), target=150),
    ]


async def _upgrades(place: Place) -> list[Figure]:
    """Install a folder, then upgrade it again and again, by turns."""
    with tarfile.open(fileobj=io.BytesIO(web_chart("typed-web"))) as archive:
        archive.extractall(place.folder, filter="data")
    folder = str(place.folder / "typed-web")
    mine, theirs = [], []
    async with place.namespace() as namespace:
        for number in range(-2, PAIRS):
            flags = ["--install", folder, "-n", namespace, "--set", f"replicas={number % 2}"]
            ours = _elapsed(place, _ours("upgrade", "mine", *flags, "--wait=none"))
            await asyncio.sleep(0.3)  # what either leaves to the controllers is not the other's cost
            helms = _elapsed(place, _helm(place, "upgrade", "theirs", *flags))
            await asyncio.sleep(0.3)
            if number >= 0:
                mine.append(ours)
                theirs.append(helms)
    return [
        Figure("helm upgrade --install of a folder", tuple(theirs)),
        Figure("pilothouse upgrade --install --wait=none", tuple(mine)),
        _ratio("pilothouse / helm upgrade --install, medians", mine, theirs, target=0.6),
    ]


async def _lists(place: Place) -> list[Figure]:
    figures = []
    file = place.folder / "listed.tgz"
    file.write_bytes(web_chart("listed"))
    async with place.namespace() as namespace:
        await asyncio.to_thread(place.helm_install, "first", file, namespace=namespace, options=[])
        for count, target in ((FEW, 0.3), (MANY, 0.05)):
            await _copy(place, namespace, count)
            names = 0
            while names < count:
                names = len(_said(place, _ours("list", "-q", "--max", "0", "-n", namespace)).split())
            rounds = PAIRS if count == FEW else PAIRS // 2
            mine, theirs, completed = [], [], []
            for _ in range(rounds):
                mine.append(_elapsed(place, _ours("list", "--max", "0", "-n", namespace)))
                theirs.append(_elapsed(place, _helm(place, "list", "--max", "0", "-n", namespace)))
                completed.append(_elapsed(place, _ours(), words=f"pilothouse status -n {namespace} copy-1"))
            figures += [
                Figure(f"helm list of {count}", tuple(theirs)),
                Figure(f"pilothouse list of {count}", tuple(mine)),
                _ratio(f"pilothouse / helm list of {count}, medians", mine, theirs, target=target),
                Figure(f"completion of a release's name among {count}", tuple(completed), target=200),
            ]
    return figures


def _ratio(what: str, mine: list[float], theirs: list[float], *, target: float) -> Figure:
    return Figure(what, (statistics.median(mine) / statistics.median(theirs),), unit="", target=target)


def _ours(*arguments: str) -> list[str]:
    return [str(Path(sys.executable).with_name("pilothouse")), *arguments]


def _helm(place: Place, *arguments: str) -> list[str]:
    return [str(place.helm), *arguments, "--kubeconfig", str(place.kubeconfig)]


def _elapsed(place: Place, command: list[str], *, words: str = "") -> float:
    """Return the milliseconds from Enter to the prompt."""
    started = time.perf_counter()
    _said(place, command, words=words)
    return (time.perf_counter() - started) * 1000


def _said(place: Place, command: list[str], *, words: str = "") -> str:
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(place.folder),
        "PILOTHOUSE_URL": place.server.url,
        "CLOUD_SDK_AK": place.server.access_key,
        "CLOUD_SDK_SK": place.server.secret_key,
    }
    if words:
        completing = {"_PILOTHOUSE_COMPLETE": "complete_bash", "COMP_WORDS": words}
        environment |= completing | {"COMP_CWORD": str(len(words.split()) - 1)}
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout


async def _copy(place: Place, namespace: str, count: int) -> None:
    """Make copies of the first release, so that there are ``count``: only what lists read, its Secret."""
    settings = ClusterSettings(allow_loopback=True)
    kubeconfig = sanitise(place.kubeconfig.read_text(), addresses=Addresses(allow_loopback=True)).text
    kubernetes = Transport(kubeconfig, settings)
    path = f"/api/v1/namespaces/{namespace}/secrets"
    turns = asyncio.Semaphore(_AT_ONCE)
    try:
        secret = (await kubernetes.ask("GET", f"{path}/sh.helm.release.v1.first.v1", largest=_LARGEST)).body

        async def put(number: int) -> None:
            async with turns:
                await kubernetes.ask("POST", path, body=_renamed(secret, f"copy-{number}"), largest=_LARGEST)

        owned = {"labelSelector": "owner=helm"}
        have = (await kubernetes.ask("GET", path, params=owned, largest=_LARGEST * 64)).body["items"]
        await asyncio.gather(*(put(number) for number in range(len(have), count)))
    finally:
        await kubernetes.close()


def _renamed(secret: dict[str, Any], name: str) -> dict[str, Any]:
    release = json.loads(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))))
    packed = base64.b64encode(base64.b64encode(gzip.compress(json.dumps({**release, "name": name}).encode())))
    labels = {**secret["metadata"]["labels"], "name": name}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": secret["type"],
        "metadata": {"name": f"sh.helm.release.v1.{name}.v1", "labels": labels},
        "data": {"release": packed.decode()},
    }
