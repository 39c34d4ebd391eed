"""A cluster that was well when it was registered, and then takes connections and answers nothing any more."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

import httpx2
import pytest
import yaml

from tests.support.charts import config_map_chart
from tests.support.servers import RunningServer, open_folder, run_server
from tests.support.wire import assert_error

#: One request may cost 5 s; what the machine adds is not what is tested.
MOST_SECONDS = 15


class Line:
    """A way to the API server that can be silenced: then bytes are taken and go nowhere."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.silent = threading.Event()
        self._open: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in (self._listener, *self._open):  # a blocked accept holds a listener that is only closed
            with contextlib.suppress(OSError):
                one.shutdown(socket.SHUT_RDWR)
            one.close()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                inner, _ = self._listener.accept()
                outer = socket.create_connection(self._target)
                self._open += [inner, outer]
                for source, sink in ((inner, outer), (outer, inner)):
                    threading.Thread(target=self._copy, args=(source, sink), daemon=True).start()

    def _copy(self, source: socket.socket, sink: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if not self.silent.is_set():
                    sink.sendall(data)


@pytest.fixture
def line(kubeconfig: str) -> Iterator[Line]:
    server = urlsplit(yaml.safe_load(kubeconfig)["clusters"][0]["cluster"]["server"])
    made = Line((server.hostname or "", server.port or 443))
    yield made
    made.close()


def through(kubeconfig: str, line: Line) -> str:
    document = yaml.safe_load(kubeconfig)
    cluster = document["clusters"][0]["cluster"]
    url = urlsplit(cluster["server"])
    cluster.setdefault("tls-server-name", url.hostname)
    cluster["server"] = f"https://127.0.0.1:{line.port}"
    return str(yaml.safe_dump(document))


def test_each_request_costs_its_limit_and_names_the_cluster_and_others_go_on(
    kubeconfig: str, line: Line, namespace: str
):
    with open_folder() as folder, run_server(folder, kubeconfig=through(kubeconfig, line)) as server:
        chart = str(server.upload(config_map_chart("silenced")).json()["id"])
        assert server.create(chart_id=chart, namespace=namespace, name="before").status_code == 201
        assert server.wait_until_final(namespace, "before")["status"] == "DEPLOYED"
        server.wait_until_listed()
        line.silent.set()
        path = f"/cce/cam/v3/clusters/{server.cluster_id}/namespace/{namespace}/releases/before"
        body = {"chart_id": chart, "action": "upgrade", "values": {}, "parameters": {}}
        refused: list[Callable[[], httpx2.Response]] = [
            lambda: server.create(chart_id=chart, namespace=namespace, name="late"),
            lambda: server.create(chart_id=chart, namespace=namespace, name="dry", parameters={"dry_run": True}),
            lambda: server.send("PUT", path, json_body=body),
            lambda: server.send("DELETE", path),
            lambda: server.send("GET", f"/api/v1/clusters/{server.cluster_id}/probe"),
        ]
        for ask in refused:
            started = time.monotonic()
            assert_error(ask(), 500, "CCE.01500001", "cluster 'test'", "did not answer within 5 s")
            assert time.monotonic() - started < MOST_SECONDS
        assert_still_served(server, namespace)


def assert_still_served(server: RunningServer, namespace: str) -> None:
    """Check that what needs no cluster goes on, reads of its releases included."""
    assert server.send("GET", "/v2/charts").status_code == 200
    shown = server.show(namespace, "before")
    assert (shown.status_code, shown.json().get("status")) == (200, "DEPLOYED"), shown.text
    assert server.send("GET", f"/cce/cam/v3/clusters/{server.cluster_id}/releases").status_code == 200
