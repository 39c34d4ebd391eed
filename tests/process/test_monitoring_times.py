"""How long Prometheus waits for a process whose database answers late."""

import asyncio
import socket
import time

import httpx2
from prometheus_client.metrics_core import Metric

from pilothouse.monitoring import Probes, monitored
from pilothouse.settings import MonitoringSettings


async def _hang() -> str:
    await asyncio.sleep(60)
    return ""


async def _late() -> list[Metric]:
    await asyncio.sleep(4.5)
    return []


async def test_what_does_not_answer_is_told_before_prometheus_gives_up():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    settings = MonitoringSettings(host="127.0.0.1", port=port)
    with monitored(settings, Probes(not_ready=_hang, gauges=_late)):
        async with httpx2.AsyncClient(timeout=30, trust_env=False) as http:
            began = time.monotonic()
            told = await http.get(f"http://127.0.0.1:{port}/metrics")
    assert time.monotonic() - began < 9, "Prometheus gives up after 10 s"  # one after the other it would take longer
    assert "pilothouse_database_up 1.0" in told.text
    assert "pilothouse_ready 0.0" in told.text
