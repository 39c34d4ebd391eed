"""A source of each kind, to which tests add versions of a chart: a repository that helm indexes, or a real registry."""

import contextlib
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.chart_sources import USER, registry, repository
from tests.support.charts import config_map_chart
from tests.support.releases import HelmCommand

#: What ``offered`` serves: an HTTP repository, and three real registries.
KINDS = ("http", "debian", "distribution", "token")


@dataclass(frozen=True)
class Offered:
    """A source that serves charts; ``offer`` adds an archive, as a publisher does."""

    kind: str
    url: str
    ca: str
    password: str = field(repr=False)
    offer: Callable[[bytes], object]
    name: str = field(default_factory=lambda: f"source-{uuid.uuid4().hex[:10]}")

    @property
    def body(self) -> dict[str, Any]:
        """Return the body that adds it."""
        given = {"name": self.name, "kind": "http" if self.kind == "http" else "oci", "url": self.url, "ca": self.ca}
        user = {"username": USER, "password": self.password}
        return {**given, "sync_seconds": 0, **({"credentials": user} if self.password else {})}


@contextlib.contextmanager
def offered(kind: str, folder: Path, *, helm: Path, helm_cli: HelmCommand) -> Iterator[Offered]:
    """Serve a source that has one chart already, named ``other``."""
    if kind == "http":
        files = folder / "repository"
        files.mkdir()
        with repository() as serving:

            def add(archive: bytes) -> None:
                (files / f"{len(list(files.iterdir()))}.tgz").write_bytes(archive)
                helm_cli("repo", "index", str(files))
                serving.files = {file.name: file.read_bytes() for file in files.iterdir()}

            add(_other())
            yield Offered(kind, serving.url, serving.ca, "", add)
        return
    with registry(kind, folder) as running:
        running.push(helm, _other())
        url = f"oci://{running.host}/team"
        yield Offered(kind, url, running.ca.read_text(), running.password, lambda one: running.push(helm, one))


def _other() -> bytes:
    return config_map_chart("other", "0.1.0")
