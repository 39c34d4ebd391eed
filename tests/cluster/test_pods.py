"""Questions about pods, asked of a real API server, and of ones that behave badly."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path

import orjson
import pytest
from lightkube import Client
from lightkube.config.kubeconfig import KubeConfig
from lightkube.resources.core_v1 import Pod

from pilothouse.engine.protocol import ProgressEvent
from pilothouse.errors import ClusterUnavailable, InvalidRequest
from pilothouse.kubernetes.addresses import Addresses
from pilothouse.kubernetes.kubeconfig import sanitise
from pilothouse.kubernetes.pods import Pods
from pilothouse.settings import ClusterSettings
from pilothouse.worker.progress.hook_pods import Followed, HookPods, LogSource
from tests.support.fake_api_servers import http, peer, read_request, saying
from tests.support.fake_api_servers import kubeconfig as kubeconfig_of_peer
from tools.localcluster.cluster import RunningCluster

SETTINGS = ClusterSettings(allow_loopback=True)


@pytest.fixture
async def pods(kubeconfig: str) -> AsyncIterator[Pods]:
    made = Pods(sanitise(kubeconfig, addresses=Addresses(allow_loopback=True)).text, SETTINGS)
    yield made
    await made.close()


@pytest.fixture
def direct(kubernetes: RunningCluster) -> Iterator[Client]:
    with Client(config=KubeConfig.from_file(kubernetes.kubeconfig), trust_env=False) as api:
        yield api


def put_pod(direct: Client, namespace: str, name: str, *, fate: str) -> None:
    metadata = {"name": name, "labels": {"app": "talks"}, "annotations": {"pilothouse.dev/simulate": fate}}
    spec = {"restartPolicy": "Never", "containers": [{"name": "main", "image": "example.invalid/x:1"}]}
    direct.create(Pod.from_dict({"metadata": metadata, "spec": spec}), namespace=namespace)  # type: ignore[call-overload]  # from_dict is untyped


async def read_log(asked: Pods, namespace: str, pod: str, *, follow: bool = False, seconds: float = 5) -> list[bytes]:
    log = asked.read_log(namespace=namespace, pod=pod, container="main", most_lines=2, follow=follow, seconds=seconds)
    return [line async for some in log for line in some]


async def test_a_pod_is_seen_until_it_is_gone_and_its_last_lines_and_events_are_had(
    pods: Pods, direct: Client, namespace: str
):
    put_pod(direct, namespace, "talks", fate="never-ready")
    phases = []
    async for pod in pods.watch(namespace=namespace, selector="app=talks", seconds=20):
        phases.append(pod["status"].get("phase"))
        if phases[-1] == "Running":
            break
    assert phases[0] in {"Pending", "Running"}
    lines = await read_log(pods, namespace, "talks")
    assert len(lines) == 2
    assert lines[-1].endswith(b"this line is on standard error")
    reasons = [one["reason"] for one in await pods.list_events(namespace=namespace, kind="Pod", name="talks")]
    assert "Scheduled" in reasons
    assert [pod["metadata"]["name"] async for pod in pods.watch(namespace=namespace, name="talks", seconds=1)] == [
        "talks"
    ]


async def test_a_pod_that_is_gone_has_no_log(pods: Pods, namespace: str):
    with pytest.raises(ClusterUnavailable, match='answered 404: pods "nobody" not found'):
        await read_log(pods, namespace, "nobody")


@pytest.mark.parametrize("name", ["../secrets", "a/b", "A", "", "x,involvedObject.kind=Secret"])
async def test_what_is_no_name_is_never_asked_for(pods: Pods, name: str):
    with pytest.raises(InvalidRequest):
        await read_log(pods, "default", name)
    with pytest.raises(InvalidRequest):
        await pods.list_events(namespace="default", kind="Pod", name=name)


async def test_a_line_beyond_reason_is_dropped_and_the_rest_is_read(tmp_path: Path):
    body = b"before\n" + b"x" * 100_000 + b"\nafter\n"
    async with peer(saying(http("200 OK", body, "Content-Type: text/plain")), tmp_path) as port:
        asked = Pods(kubeconfig_of_peer(port), SETTINGS)
        assert await read_log(asked, "default", "loud") == [b"before", b"", b"after"]
        await asked.close()


async def test_a_log_that_is_followed_ends_when_nothing_comes_any_more(tmp_path: Path):
    async def once(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nlast words\n")
        await writer.drain()
        await asyncio.Event().wait()

    async with peer(once, tmp_path) as port:
        asked = Pods(kubeconfig_of_peer(port), SETTINGS)
        with pytest.raises(ClusterUnavailable, match=r"stopped responding: nothing arrived for 0\.3 s"):
            await read_log(asked, "default", "quiet", follow=True, seconds=0.3)
        await asked.close()


async def test_each_line_of_a_hook_is_told_once_though_the_connection_to_its_log_breaks(tmp_path: Path):
    told: list[bytes] = []
    ended = asyncio.Event()
    asked: list[str] = []

    class Reader:
        def add(self, source: LogSource, lines: Sequence[bytes]) -> None:
            assert source == LogSource("Pod/check", "default", "check", "main", 0)
            told.extend(lines)

        def end(self, source: LogSource) -> None:
            assert source.pod == "check"
            ended.set()

        async def close(self) -> None:
            assert ended.is_set()

    pod = {"kind": "Pod", "metadata": {"name": "check"}, "status": {"containerStatuses": [
        {"name": "main", "restartCount": 0, "state": {"running": {}}}
    ]}}  # fmt: skip
    seen = orjson.dumps({"type": "MODIFIED", "object": pod}) + b"\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_request(reader)
        if b"/log?" in head:
            asked.append("log")
            if len(asked) == 1:  # less than it says, and gone
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\none\ntwo\n")
            else:
                writer.write(http("200 OK", b"one\ntwo\nthree\n", "Content-Type: text/plain"))
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n")
            while not ended.is_set():  # as a pod whose status changes
                writer.write(seen)
                await writer.drain()
                await asyncio.sleep(0.05)
        await writer.drain()
        writer.close()

    async with peer(serve, tmp_path) as port:
        followed = Followed()
        hooks = HookPods(lambda: Pods(kubeconfig_of_peer(port), SETTINGS), followed, Reader(), seconds=60)
        hooks.notice(
            ProgressEvent(phase="hook", message="", object_kind="Pod", object_name="check", object_namespace="default")
        )
        await asyncio.wait_for(ended.wait(), 10)
        await hooks.close(failed=False)
    assert len(asked) == 2
    assert told == [b"one", b"two", b"three"]
    assert list(followed.logs["default", "check", "main"]) == told


async def test_a_hook_is_followed_no_longer_though_the_call_is_cancelled_while_its_last_lines_are_awaited(
    tmp_path: Path,
):
    asked = asyncio.Event()
    left = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await read_request(reader)
        asked.set()
        await reader.read()
        left.set()

    async with peer(silent, tmp_path) as port:
        hooks = HookPods(lambda: Pods(kubeconfig_of_peer(port), SETTINGS), Followed(), seconds=60)
        event = ProgressEvent(
            phase="hook", message="", object_kind="Job", object_name="check", object_namespace="default"
        )
        hooks.notice(event)
        await asyncio.wait_for(asked.wait(), 10)
        closing = asyncio.create_task(hooks.close(failed=True))
        await asyncio.sleep(0.05)
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        await asyncio.wait_for(left.wait(), 10)
