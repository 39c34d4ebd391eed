"""Calls end, one way or another; after each way the next call succeeds; children come and go as promised."""

import asyncio
import contextlib
import json
import os
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from pilothouse.engine.deadline import Fence, boottime
from pilothouse.engine.pool import EnginePool
from pilothouse.engine.protocol import InstallRequest, RenderNameRequest
from pilothouse.errors import Busy, EngineCrashed, EngineTimeout, EngineUnavailable, HelmError
from pilothouse.redaction import MASK, Masks
from pilothouse.settings import EngineSettings
from tests.support.charts import build_chart, config_map_chart
from tests.support.engines import unvetted
from tests.support.servers import children

_MIB = 1024 * 1024
_ENDLESS = RenderNameRequest(template="{{ range until 100000 }}{{ range until 100000 }}{{ end }}{{ end }}")

MakePool = Callable[..., Coroutine[Any, Any, EnginePool]]


@pytest.fixture
async def make_pool(tmp_path: Path) -> AsyncIterator[MakePool]:
    pools = []

    async def make(**settings: Any) -> EnginePool:
        given = EngineSettings(**{"children": 1, **settings})
        pool = EnginePool(given, state_dir=tmp_path / "with space", route=unvetted)
        pools.append(pool)
        await pool.start()
        return pool

    yield make
    for pool in pools:
        await pool.close()
    assert list((tmp_path / "with space").glob("pool-*")) == []


@pytest.fixture
async def pool(make_pool: MakePool) -> EnginePool:
    return await make_pool()


async def _render(pool: EnginePool, template: str = "ok") -> str:
    return await pool.run(RenderNameRequest(template=template), deadline_seconds=10)


def _dry_install(chart: bytes, **changes: Any) -> InstallRequest:
    fields: dict[str, Any] = {"kubeconfig": "", "namespace": "n", "release_name": "r", "dry_run": "client", **changes}
    return InstallRequest(chart=chart, **fields)


def _pids(pool: EnginePool) -> set[int]:
    return {child.pid for child in pool._children}


def _proc(pid: int, name: str) -> str:
    return Path(f"/proc/{pid}/{name}").read_text()


def _open_files(pid: int) -> set[Path]:
    return {link.readlink() for link in Path(f"/proc/{pid}/fd").iterdir()}


async def _until(condition: Callable[[], bool], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - what is waited for is a process, which sets no event
            await asyncio.sleep(0.01)


async def _start_all(pool: EnginePool, count: int) -> None:
    """Keep the pool so busy that it has that many children."""
    await asyncio.gather(*(_render(pool) for _ in range(count)))
    await _until(lambda: len(_pids(pool)) == count, 30)


async def test_children_are_started_when_they_are_needed_and_end_when_they_are_not(make_pool: MakePool):
    pool = await make_pool(children=3, idle_seconds=0.2)
    assert len(_pids(pool)) == 1
    for _ in range(2):
        calls = [asyncio.create_task(pool.run(_ENDLESS, deadline_seconds=60)) for _ in range(4)]
        await _until(lambda: len(_pids(pool)) == 3, 30)
        await _until(lambda: [child.calls for child in pool._children].count(0) == 0)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)
        assert await _render(pool) == "ok"
        await _until(lambda: len(_pids(pool)) == 1 and not pool._adding, 30)
    (pid,) = _pids(pool)
    await asyncio.sleep(0.5)
    assert _pids(pool) == {pid}, "the last one stays"


async def test_children_that_are_used_now_and_then_stay(make_pool: MakePool):
    pool = await make_pool(children=2, idle_seconds=60)
    await _start_all(pool, 2)
    before = _pids(pool)
    await asyncio.sleep(0.3)
    assert await _render(pool) == "ok"
    assert _pids(pool) == before


async def test_a_call_goes_to_the_child_that_knows_its_cluster(make_pool: MakePool):
    pool = await make_pool(children=3)
    await _start_all(pool, 3)
    chart = config_map_chart()

    async def run(kubeconfig: str) -> int:
        before = {child.pid: child.calls for child in pool._children}
        await pool.run(_dry_install(chart, kubeconfig=kubeconfig), deadline_seconds=10)
        (pid,) = [child.pid for child in pool._children if child.calls > before[child.pid]]
        return pid

    of = {name: await run(name) for name in ("a", "b", "c")}
    assert len(set(of.values())) == 3, "what nobody knows goes to who knows the fewest"
    for name in "cabbac":
        assert await run(name) == of[name]


async def test_a_name_template_has_the_functions_of_a_chart(pool: EnginePool):
    name = await _render(pool, '{{ list "a" "b" | join "-" | upper | lower }}-{{ randAlphaNum 8 | lower }}')
    assert name.startswith("a-b-")
    assert len(name) == len("a-b-") + 8


async def test_a_name_template_cannot_read_the_environment(pool: EnginePool):
    with pytest.raises(HelmError, match='function "env" not defined'):
        await _render(pool, '{{ env "HOME" }}')


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("a{{ nope }}", 'name_template:1): function "nope" not defined'),
        ("a{{", "name_template:1): unclosed action"),
        ('{{ fail "because" }}', "because"),
    ],
)
async def test_a_broken_name_template_is_refused_with_helms_text(pool: EnginePool, template: str, text: str):
    with pytest.raises(HelmError) as refused:
        await _render(pool, template)
    assert text in str(refused.value)
    assert "templates/" not in str(refused.value)
    assert refused.value.kind == "HelmRenderError"


async def test_a_client_dry_run_renders_without_a_cluster(pool: EnginePool):
    outcome = await pool.run(_dry_install(config_map_chart(), values={"text": "中文"}), deadline_seconds=10)
    assert (outcome.name, outcome.namespace, outcome.revision, outcome.chart_version) == ("r", "n", 1, "0.1.0")
    assert 'text: "中文"' in outcome.manifest
    assert outcome.values == {"text": "中文"}


async def test_values_are_the_charts_with_the_callers_laid_over(pool: EnginePool):
    chart = build_chart(
        values={"a": {"b": 1, "c": 2}, "inner": {"x": 1}},
        subcharts={"inner.tgz": build_chart("inner", values={"x": 0, "y": 2})},
    )
    outcome = await pool.run(_dry_install(chart, values={"a": {"b": 5}}), deadline_seconds=10)
    assert outcome.values["a"] == {"b": 5, "c": 2}
    assert (outcome.values["inner"]["x"], outcome.values["inner"]["y"]) == (1, 2)


async def test_one_callers_values_and_switches_do_not_reach_the_next(pool: EnginePool):
    sub = build_chart("inner", templates={"c.yaml": "kind: Inner\napiVersion: v1\nmetadata: {name: inner}\n"})
    chart = build_chart(
        templates={"a.yaml": "apiVersion: v1\nkind: A\nmetadata: {name: a}\ndata: {{ toJson .Values }}\n"},
        values={"inner": {"enabled": True}},
        subcharts={"inner-0.1.0.tgz": sub},
        metadata={
            "dependencies": [{"name": "inner", "version": "0.1.0", "condition": "inner.enabled", "repository": ""}]
        },
    )
    off = {"inner": {"enabled": False}, "password": "hunter2"}
    first = await pool.run(_dry_install(chart, values=off), deadline_seconds=10)
    second = await pool.run(_dry_install(chart), deadline_seconds=10)
    assert "kind: Inner" not in first.manifest
    assert "kind: Inner" in second.manifest
    assert "hunter2" not in second.manifest


async def test_a_library_chart_is_refused(pool: EnginePool):
    with pytest.raises(HelmError, match="library chart"):
        await pool.run(_dry_install(build_chart(chart_type="library")), deadline_seconds=10)


async def test_a_remote_schema_is_refused(pool: EnginePool):
    chart = build_chart(subcharts={"i.tgz": build_chart("i", schema='{"$ref": "http://127.0.0.1:9/x"}')})
    with pytest.raises(HelmError, match="only references within the file"):
        await pool.run(_dry_install(chart), deadline_seconds=10)


async def test_nul_is_refused_before_any_child_sees_it(pool: EnginePool):
    with pytest.raises(HelmError, match="NUL"):
        await pool.run(_dry_install(config_map_chart(), values={"text": "a\0b"}), deadline_seconds=10)
    assert await _render(pool) == "ok"


@pytest.mark.parametrize("kubeconfig", ["", "  \n"])
async def test_a_real_install_without_a_kubeconfig_is_refused(pool: EnginePool, kubeconfig: str):
    with pytest.raises(HelmError, match="kubeconfig is empty"):
        await pool.run(_dry_install(config_map_chart(), dry_run="none", kubeconfig=kubeconfig), deadline_seconds=10)


async def test_a_kubeconfig_without_a_server_reaches_nobody(pool: EnginePool):
    with pytest.raises(HelmError) as refused:
        await pool.run(_dry_install(config_map_chart(), dry_run="none", kubeconfig="a: b"), deadline_seconds=10)
    assert refused.value.kind == "HelmKubeError"
    assert "8080" not in str(refused.value)


async def test_the_text_of_a_broken_kubeconfig_names_no_file_of_ours(pool: EnginePool, tmp_path: Path):
    with pytest.raises(HelmError) as refused:
        await pool.run(_dry_install(config_map_chart(), dry_run="none", kubeconfig="a: ["), deadline_seconds=10)
    assert str(tmp_path) not in str(refused.value)


async def test_an_api_server_that_never_answers_costs_the_deadline_and_no_more(pool: EnginePool):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        text = _kubeconfig(f"http://127.0.0.1:{silent.getsockname()[1]}")
        request = _dry_install(config_map_chart(), dry_run="none", kubeconfig=text)
        with pytest.raises(EngineTimeout):
            await pool.run(request, deadline_seconds=1)
    assert await _render(pool) == "ok"


async def test_a_server_that_takes_no_connection_leaves_nothing_open(pool: EnginePool):
    """Neither at the deadline nor when the caller goes: connecting for the child stops, and the next call succeeds."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as waiting:
        port = full.getsockname()[1]
        for _ in range(4):
            one = waiting.enter_context(socket.socket())
            one.setblocking(False)
            one.connect_ex(("127.0.0.1", port))
        before = _connecting(port)
        request = _dry_install(config_map_chart(), dry_run="none", kubeconfig=_kubeconfig(f"http://127.0.0.1:{port}"))
        for cancelled in (False, True):
            calling = asyncio.create_task(pool.run(request, deadline_seconds=30 if cancelled else 2))
            await _until(lambda: _connecting(port) > before)
            if cancelled:
                calling.cancel()
            with pytest.raises(asyncio.CancelledError if cancelled else EngineTimeout):
                await calling
            await _until(lambda: _connecting(port) == before)
            assert await _render(pool) == "ok"


def _connecting(port: int) -> int:
    """How many sockets of this machine wait for a server's answer at that port."""
    lines = [line.split() for line in Path("/proc/self/net/tcp").read_text().splitlines()[1:]]
    return sum(line[2].endswith(f":{port:04X}") and line[3] == "02" for line in lines)


def _kubeconfig(server: str) -> str:
    kubeconfig = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "a", "cluster": {"server": server}}],
        "contexts": [{"name": "a", "context": {"cluster": "a", "user": ""}}],
        "current-context": "a",
    }
    return json.dumps(kubeconfig)


async def test_a_refused_connection_is_helms_answer(pool: EnginePool):
    kubeconfig = '{"clusters": [{"name": "a", "cluster": {"server": "https://127.0.0.1:1"}}], "current-context": "a", '
    kubeconfig += '"contexts": [{"name": "a", "context": {"cluster": "a"}}]}'
    with pytest.raises(HelmError, match="cluster unreachable") as refused:
        await pool.run(_dry_install(config_map_chart(), dry_run="none", kubeconfig=kubeconfig), deadline_seconds=10)
    assert refused.value.kind == "HelmKubeError"


async def test_endless_work_ends_at_the_deadline(pool: EnginePool):
    before = _pids(pool)
    started = time.monotonic()
    with pytest.raises(EngineTimeout, match=r"after 0\.5 s"):
        await pool.run(_ENDLESS, deadline_seconds=0.5)
    assert time.monotonic() - started < 2
    assert await _render(pool) == "ok"
    assert _pids(pool).isdisjoint(before)


@pytest.mark.parametrize(
    "request_",
    [
        pytest.param(RenderNameRequest(template="{{ until 1000000000 }}"), id="until"),
        pytest.param(RenderNameRequest(template='{{ repeat 2000000000 "x" }}'), id="repeat"),
        pytest.param(RenderNameRequest(template='{{ "x" | indent 2000000000 }}'), id="indent"),
        pytest.param(
            _dry_install(
                build_chart(templates={"a.yaml": "{{ tpl .Values.x . }}"}, values={"x": "{{ tpl .Values.x . }}"})
            ),
            id="recursive tpl",
        ),
        pytest.param(
            _dry_install(
                build_chart(
                    templates={
                        "_h.tpl": "".join(
                            f'{{{{ define "t{n}" }}}}{{{{ include "t{(n + 1) % 200}" . }}}}{{{{ end }}}}'
                            for n in range(200)
                        ),
                        "a.yaml": '{{ include "t0" . }}',
                    }
                )
            ),
            id="include cycle",
        ),
    ],
)
async def test_a_chart_that_eats_memory_costs_its_own_child_only(make_pool: MakePool, request_: Any):
    pool = await make_pool(memory_bytes=2560 * _MIB)
    before = _pids(pool)
    with pytest.raises(EngineCrashed) as crashed:
        await pool.run(request_, deadline_seconds=60)
    assert "aborted" in str(crashed.value)
    assert "out of memory" in crashed.value.stderr_tail or "stack" in crashed.value.stderr_tail
    assert await _render(pool) == "ok"
    assert _pids(pool).isdisjoint(before)


async def test_cpu_time_is_limited_per_operation_not_per_life(make_pool: MakePool):
    pool = await make_pool(cpu_seconds=1)
    before = _pids(pool)
    for _ in range(3):  # together more than the limit of one
        await pool.run(
            RenderNameRequest(template="{{ range until 1300 }}{{ range until 1000 }}{{ end }}{{ end }}"),
            deadline_seconds=20,
        )
    assert _pids(pool) == before
    with pytest.raises(EngineCrashed, match="of CPU time, the limit"):
        await pool.run(_ENDLESS, deadline_seconds=20)
    assert await _render(pool) == "ok"


async def test_cancelling_the_caller_kills_the_child_at_once(pool: EnginePool):
    (pid,) = _pids(pool)
    call = asyncio.create_task(pool.run(_ENDLESS, deadline_seconds=60))
    await asyncio.sleep(0.2)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await _until(lambda: not Path(f"/proc/{pid}").exists(), seconds=2)
    assert await _render(pool) == "ok"


async def test_a_fence_that_is_not_extended_ends_the_call(pool: EnginePool):
    started = time.monotonic()
    with pytest.raises(EngineTimeout, match="not extended"):
        await pool.run(_ENDLESS, deadline_seconds=60, fence=Fence(boottime() + 0.3))
    assert time.monotonic() - started < 2
    assert await _render(pool) == "ok"


async def test_a_fence_extended_from_a_thread_keeps_the_call_alive(pool: EnginePool):
    fence = Fence(boottime() + 0.5)

    def renew() -> None:
        for _ in range(8):
            time.sleep(0.15)
            fence.extend(boottime() + 0.5)

    renewals = asyncio.create_task(asyncio.to_thread(renew))
    with pytest.raises(EngineTimeout, match="after 1 s"):
        await pool.run(_ENDLESS, deadline_seconds=1, fence=fence)
    await renewals


async def test_a_fence_kills_from_another_thread(pool: EnginePool):
    fence = Fence(boottime() + 60)
    call = asyncio.create_task(pool.run(_ENDLESS, deadline_seconds=60, fence=fence))
    await asyncio.sleep(0.2)
    await asyncio.to_thread(fence.kill)
    with pytest.raises(EngineTimeout):
        await call
    assert await _render(pool) == "ok"


async def test_a_fence_that_has_passed_costs_no_child(pool: EnginePool):
    before = _pids(pool)
    with pytest.raises(EngineTimeout, match="nothing was done"):
        await pool.run(RenderNameRequest(template="ok"), deadline_seconds=5, fence=Fence(boottime() - 1))
    assert await _render(pool) == "ok"
    assert _pids(pool) == before


async def test_no_free_child_in_time_is_busy(pool: EnginePool):
    call = asyncio.create_task(pool.run(_ENDLESS, deadline_seconds=1))
    await asyncio.sleep(0.05)
    started = time.monotonic()
    with pytest.raises(Busy):
        await pool.run(RenderNameRequest(template="ok"), deadline_seconds=5, queue_seconds=0.2)
    assert time.monotonic() - started < 0.9
    waiting = asyncio.create_task(_render(pool))
    with pytest.raises(EngineTimeout):
        await call
    assert await waiting == "ok"


async def test_callers_are_served_in_the_order_they_came(pool: EnginePool):
    order: list[int] = []

    async def call(number: int) -> None:
        await _render(pool)
        order.append(number)

    await asyncio.gather(*(call(number) for number in range(8)))
    assert order == list(range(8))


async def test_a_caller_who_stops_waiting_takes_no_child_with_him(pool: EnginePool):
    running = asyncio.create_task(pool.run(_ENDLESS, deadline_seconds=0.3))
    await asyncio.sleep(0.05)
    waiting = [asyncio.create_task(_render(pool)) for _ in range(3)]
    await asyncio.sleep(0.05)
    waiting[0].cancel()
    await asyncio.gather(running, waiting[0], return_exceptions=True)
    assert await asyncio.gather(*waiting[1:]) == ["ok", "ok"]


async def test_a_worn_child_is_replaced_without_a_gap(make_pool: MakePool):
    pool = await make_pool(recycle_after=3)
    seen: set[int] = set()
    until = time.monotonic() + 60
    while len(seen) < 3 and time.monotonic() < until:
        await _render(pool)
        assert _pids(pool), "the worn child went before its successor was there"
        seen |= _pids(pool)
        await asyncio.sleep(0.02)
    assert len(seen) >= 3
    await _until(lambda: len(_pids(pool)) == 1)


async def test_a_worn_child_that_dies_after_its_successor_came_costs_its_share_no_place(make_pool: MakePool):
    pool = await make_pool(children=2, recycle_after=2)
    (worn,) = _pids(pool)
    ready = RenderNameRequest(template="ok")
    for _ in range(2):
        assert await pool.run(ready, deadline_seconds=10, share="one") == "ok"
    call = asyncio.create_task(pool.run(_ENDLESS, deadline_seconds=60, share="one"))
    await _until(lambda: bool(pool._retired))
    os.kill(worn, 9)
    with pytest.raises(EngineCrashed):
        await call
    assert await pool.run(ready, deadline_seconds=10, queue_seconds=10, share="one") == "ok"


async def test_a_child_that_dies_idle_is_replaced(pool: EnginePool):
    (pid,) = _pids(pool)
    os.kill(pid, 9)
    await _until(lambda: bool(_pids(pool)) and pid not in _pids(pool))
    assert await _render(pool) == "ok"


async def test_a_child_whose_address_space_swelled_is_replaced(make_pool: MakePool):
    pool = await make_pool(memory_bytes=2560 * _MIB)
    before = _pids(pool)
    for _ in range(8):  # each alone leaves enough room, all together would not
        assert await _render(pool, '{{ repeat 100000000 "x" | len }}') == "100000000"
    assert _pids(pool).isdisjoint(before)


async def test_a_child_cannot_be_told_from_the_helm_command_by_its_name(pool: EnginePool):
    (pid,) = _pids(pool)
    arguments = _proc(pid, "cmdline").split("\0")
    assert arguments[0] == "helm"


async def test_a_childs_limits_are_in_force(pool: EnginePool):
    (pid,) = _pids(pool)
    rows = {line[:25].strip(): line[26:].split() for line in _proc(pid, "limits").splitlines()}
    assert rows["Max address space"][:2] == [str(3072 * _MIB)] * 2
    assert rows["Max core file size"][:2] == ["0", "0"]
    assert _proc(pid, "oom_score_adj").strip() == "1000"
    assert os.getpgid(pid) == pid
    assert os.getsid(pid) == pid


async def test_a_child_holds_no_descriptor_of_ours(make_pool: MakePool, tmp_path: Path):
    with (tmp_path / "secret").open("w") as secret:
        os.set_inheritable(secret.fileno(), True)
        pool = await make_pool()
        (pid,) = _pids(pool)
        held = _open_files(pid)
    assert tmp_path / "secret" not in held


async def test_a_child_that_cannot_start_is_reported_with_the_reason(make_pool: MakePool):
    with pytest.raises(EngineUnavailable, match=r"while starting \(memory limit 700 MiB\)|cannot be used"):
        await make_pool(memory_bytes=700 * _MIB)


async def test_a_child_that_is_killed_while_it_starts_does_not_cost_the_pool(make_pool: MakePool):
    before = {*children(os.getpid())}
    starting = asyncio.create_task(make_pool())
    await _until(lambda: bool({*children(os.getpid())} - before))
    (pid,) = {*children(os.getpid())} - before
    os.kill(pid, 9)
    pool = await starting
    assert await _render(pool) == "ok"


async def test_a_further_child_that_is_killed_while_it_starts_costs_no_call_of_the_first(make_pool: MakePool):
    pool = await make_pool(children=2)
    before = {*children(os.getpid())}
    calls = [asyncio.create_task(pool.run(_ENDLESS, deadline_seconds=60)), asyncio.create_task(_render(pool))]
    await _until(lambda: bool({*children(os.getpid())} - before), 30)
    (second,) = {*children(os.getpid())} - before
    os.kill(second, 9)
    assert await calls[1] == "ok"
    assert len(_pids(pool)) == 2
    calls[0].cancel()
    await asyncio.gather(calls[0], return_exceptions=True)


async def test_starting_is_tried_again_slowly_and_callers_hear_why(pool: EnginePool, monkeypatch: pytest.MonkeyPatch):
    attempts = 0
    real = pool._spawn

    async def broken(_folder: Any) -> None:
        nonlocal attempts
        attempts += 1
        raise EngineUnavailable("the library is missing", stderr_tail="tail")

    monkeypatch.setattr(pool, "_spawn", broken)
    waiting = asyncio.create_task(pool.run(_ENDLESS, deadline_seconds=60))
    queued = asyncio.create_task(_render(pool))
    await asyncio.sleep(0.05)
    (pid,) = _pids(pool)
    os.kill(pid, 9)
    with pytest.raises(EngineCrashed, match="was killed"):
        await waiting
    with pytest.raises(EngineUnavailable, match="library is missing"):
        await queued
    with pytest.raises(EngineUnavailable, match="library is missing"):
        await _render(pool)
    await asyncio.sleep(0.8)
    assert attempts == 2
    monkeypatch.setattr(pool, "_spawn", real)
    await _until(lambda: bool(_pids(pool)))
    assert await _render(pool) == "ok"


async def test_closing_fails_running_and_waiting_calls(make_pool: MakePool):
    pool = await make_pool()
    running = asyncio.create_task(pool.run(_ENDLESS, deadline_seconds=60))
    waiting = asyncio.create_task(_render(pool))
    await asyncio.sleep(0.1)
    await pool.close()
    with pytest.raises(EngineCrashed):
        await running
    with pytest.raises(EngineUnavailable, match="shut down"):
        await waiting
    with pytest.raises(EngineUnavailable, match="not running"):
        await _render(pool)


async def test_dispatch_costs_less_than_three_milliseconds(pool: EnginePool):
    times = []
    for _ in range(100):
        started = time.perf_counter()
        await _render(pool)
        times.append(time.perf_counter() - started)
    assert sorted(times)[50] < 0.003 * (1 + os.getloadavg()[0] / 2)


async def _never_end(pool: EnginePool, share: str) -> None:
    while True:
        with contextlib.suppress(EngineTimeout, Busy):
            await pool.run(_ENDLESS, deadline_seconds=0.5, queue_seconds=5.0, share=share)


@pytest.mark.parametrize("count", [1, 2])
async def test_one_project_with_endless_calls_leaves_the_others_their_turn(make_pool: MakePool, count: int):
    pool = await make_pool(children=count)
    attack = [asyncio.create_task(_never_end(pool, "busy")) for _ in range(4)]
    await asyncio.sleep(1.0)
    try:
        for _ in range(3):
            request = RenderNameRequest(template="ok")
            assert await pool.run(request, deadline_seconds=10, queue_seconds=5.0, share="quiet") == "ok"
    finally:
        for task in attack:
            task.cancel()
        await asyncio.gather(*attack, return_exceptions=True)


async def test_who_breaks_its_child_does_not_get_the_other_before_there_is_a_new_one(make_pool: MakePool):
    pool = await make_pool(children=2)
    await _start_all(pool, 2)
    with pytest.raises(EngineTimeout):
        await pool.run(_ENDLESS, deadline_seconds=0.3, share="busy")
    assert len([child for child in pool._children if child.usable]) == 1
    with pytest.raises(Busy):
        await pool.run(RenderNameRequest(template="ok"), deadline_seconds=10, queue_seconds=0.0, share="busy")
    request = RenderNameRequest(template="ok")
    assert await pool.run(request, deadline_seconds=10, queue_seconds=0.0, share="quiet") == "ok"
    await _until(lambda: len(pool._children) == 2)
    assert await pool.run(request, deadline_seconds=10, queue_seconds=5.0, share="busy") == "ok"


async def test_an_error_is_masked_with_what_the_caller_knows(pool: EnginePool):
    chart = build_chart("said", templates={"fail.yaml": '{{ fail "the rollout of a-value-of-mine is refused" }}'})
    with pytest.raises(HelmError) as caught:
        await pool.run(_dry_install(chart), deadline_seconds=10, masks=Masks(["a-value-of-mine"]))
    assert f"the rollout of {MASK} is refused" in str(caught.value)
