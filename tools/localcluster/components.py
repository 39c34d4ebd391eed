"""What each component of the cluster is started with.

All of them run in the cluster's folder and are given relative paths, so no path with a space or a comma can be misread.
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from tools.localcluster.folders import ClusterFolder
from tools.localcluster.ports import HOST, Ports
from tools.localcluster.programs import APISERVER, CONTROLLER_MANAGER, ETCD, KWOK, SCHEDULER

START_ORDER = (ETCD, APISERVER, CONTROLLER_MANAGER, SCHEDULER, KWOK)
STOP_ORDER = tuple(reversed(START_ORDER))
CONFIG = Path(__file__).parent / "config"
# The defaults are meant for machines with other work to do; here a test waits for every one of these requests.
_QUICK = ("--kube-api-qps=500", "--kube-api-burst=1000")


@dataclass(frozen=True)
class Component:
    """A component's name, its arguments and the port it listens on, if any."""

    name: str
    arguments: tuple[str, ...]
    port: int | None = None


def all_of(ports: Ports) -> dict[str, Component]:
    """Every component of a cluster that uses these ports, by name."""
    return {
        ETCD: Component(ETCD, _etcd(ports), ports.etcd),
        APISERVER: Component(APISERVER, _apiserver(ports), ports.apiserver),
        CONTROLLER_MANAGER: Component(CONTROLLER_MANAGER, _controller_manager()),
        SCHEDULER: Component(SCHEDULER, _scheduler()),
        KWOK: Component(KWOK, _kwok(ports), ports.kwok),
    }


def write_config(folder: ClusterFolder) -> None:
    """Write the files that the arguments name into the cluster's folder."""
    for source in CONFIG.iterdir():
        shutil.copyfile(source, folder.config / source.name)


def _etcd(ports: Ports) -> tuple[str, ...]:
    clients, peers = f"https://{HOST}:{ports.etcd}", f"https://{HOST}:{ports.etcd_peers}"
    tls = (
        "--trusted-ca-file=pki/etcd-ca.crt",
        "--cert-file=pki/etcd.crt",
        "--key-file=pki/etcd.key",
        "--client-cert-auth",
    )
    return (
        "--name=local",
        "--data-dir=etcd",
        f"--listen-client-urls={clients}",
        f"--advertise-client-urls={clients}",
        f"--listen-peer-urls={peers}",
        f"--initial-advertise-peer-urls={peers}",
        f"--initial-cluster=local={peers}",
        *tls,
        *(flag.replace("--", "--peer-", 1) for flag in tls),
        # The kernel keeps what a killed etcd has written; only a crash of the machine may lose it. For tests alone.
        "--unsafe-no-fsync",
        "--quota-backend-bytes=8589934592",
        "--log-level=warn",
    )


def _apiserver(ports: Ports) -> tuple[str, ...]:
    return (
        f"--etcd-servers=https://{HOST}:{ports.etcd}",
        "--etcd-cafile=pki/etcd-ca.crt",
        "--etcd-certfile=pki/etcd.crt",
        "--etcd-keyfile=pki/etcd.key",
        f"--bind-address={HOST}",
        f"--secure-port={ports.apiserver}",
        "--tls-cert-file=pki/apiserver.crt",
        "--tls-private-key-file=pki/apiserver.key",
        "--client-ca-file=pki/ca.crt",
        "--token-auth-file=pki/tokens.csv",
        "--authorization-mode=RBAC",
        "--allow-privileged",
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-account-key-file=pki/service-accounts.pub",
        "--service-account-signing-key-file=pki/service-accounts.key",
        "--service-cluster-ip-range=10.96.0.0/16",
        # No pod could reach the API server anyway, and without these a machine with no network cannot start it.
        "--endpoint-reconciler-type=none",
        "--advertise-address=192.0.2.1",
        # The node's address is loopback; its host name would be looked up in DNS.
        "--kubelet-preferred-address-types=InternalIP",
        "--kubelet-certificate-authority=pki/ca.crt",
        "--audit-policy-file=config/audit.yaml",
        "--audit-log-path=logs/audit.log",
        "--audit-log-maxsize=50",
        "--audit-log-maxbackup=3",
        "--profiling=false",
    )


def _controller_manager() -> tuple[str, ...]:
    return (
        f"--kubeconfig=pki/{CONTROLLER_MANAGER}.kubeconfig",
        "--leader-elect=false",
        "--secure-port=0",
        "--root-ca-file=pki/ca.crt",
        "--service-account-private-key-file=pki/service-accounts.key",
        # So that a test can have a client certificate by the usual way, a CertificateSigningRequest.
        "--cluster-signing-cert-file=pki/ca.crt",
        "--cluster-signing-key-file=pki/ca.key",
        "--profiling=false",
        *_QUICK,
    )


def _scheduler() -> tuple[str, ...]:
    return (
        f"--kubeconfig=pki/{SCHEDULER}.kubeconfig",
        "--leader-elect=false",
        "--secure-port=0",
        "--profiling=false",
        *_QUICK,
    )


def _kwok(ports: Ports) -> tuple[str, ...]:
    return (
        f"--kubeconfig=pki/{KWOK}.kubeconfig",
        "--config=config/nodes.yaml",
        "--manage-all-nodes=true",
        "--node-lease-duration-seconds=40",
        f"--node-ip={HOST}",
        f"--node-port={ports.kwok}",
        f"--server-address={HOST}:{ports.kwok}",
        "--tls-cert-file=pki/kwok.crt",
        "--tls-private-key-file=pki/kwok.key",
        "--cidr=10.128.0.0/12",
        "--v=WARN",
    )
