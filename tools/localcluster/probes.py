"""Asks etcd and the API server the few things that starting a cluster needs to know.

No proxy is ever used: both addresses are loopback.
"""

import http.client
import json
import ssl
from collections.abc import Mapping
from typing import Any

from tools.localcluster import credentials
from tools.localcluster.folders import ClusterFolder
from tools.localcluster.ports import HOST, Ports

NODE = "local-node-1"
NOT_READY = "node.kubernetes.io/not-ready"
TIMEOUT = 5.0
"""Seconds for one request; the machine may be busy compiling."""


class ApiServer:
    """The API server of one cluster, as its admin."""

    def __init__(self, folder: ClusterFolder, ports: Ports) -> None:
        self._port = ports.apiserver
        self._tls = ssl.create_default_context(cafile=str(folder.pki / "ca.crt"))
        self._headers = {
            "Authorization": f"Bearer {credentials.token(folder, credentials.ADMIN)}",
            "Content-Type": "application/json",
        }

    def ready(self) -> bool:
        """Whether /readyz says ok."""
        status, _ = self.request("GET", "/readyz")
        return status == http.client.OK

    def node_ready(self) -> bool:
        """Whether the node is Ready and the scheduler may use it; an absent node is created."""
        status, node = self.request("GET", f"/api/v1/nodes/{NODE}")
        if status == http.client.NOT_FOUND:
            labels = {"kubernetes.io/hostname": NODE, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
            body = {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": labels}}
            self.request("POST", "/api/v1/nodes", body)
            return False
        if status != http.client.OK:
            return False
        conditions = node.get("status", {}).get("conditions", [])
        says_ready = any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)
        taints = {taint["key"] for taint in node.get("spec", {}).get("taints", [])}
        return says_ready and NOT_READY not in taints

    def default_account_exists(self) -> bool:
        """Whether pods can be created in the namespace default, now that the controller manager made its account."""
        status, _ = self.request("GET", "/api/v1/namespaces/default/serviceaccounts/default")
        return status == http.client.OK

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        """Status and JSON body of one request; status 0 when the server does not answer."""
        return _request(self._port, self._tls, method, path, headers=self._headers, body=body)


def etcd_healthy(folder: ClusterFolder, ports: Ports) -> bool:
    """Whether etcd has read its data and answers."""
    tls = ssl.create_default_context(cafile=str(folder.pki / "etcd-ca.crt"))
    tls.load_cert_chain(folder.pki / "etcd.crt", folder.pki / "etcd.key")
    status, _ = _request(ports.etcd, tls, "GET", "/health", headers={})
    return status == http.client.OK


def _request(
    port: int,
    tls: ssl.SSLContext,
    method: str,
    path: str,
    *,
    headers: Mapping[str, str],
    body: dict[str, Any] | None = None,
) -> tuple[int, dict[str, Any]]:
    connection = http.client.HTTPSConnection(HOST, port, timeout=TIMEOUT, context=tls)
    try:
        connection.request(method, path, body=json.dumps(body) if body else None, headers=headers)
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException):
        return 0, {}
    finally:
        connection.close()
    try:
        parsed = json.loads(content)
    except ValueError:
        parsed = {}
    return response.status, parsed if isinstance(parsed, dict) else {}
