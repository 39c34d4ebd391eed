"""What others notice of an attack."""

import threading
import time
from collections.abc import Callable

import httpx2

from tests.support.servers import RunningServer


def longest_wait(server: RunningServer, attack: Callable[[], object]) -> float:
    """How long, at most, a stranger waited for the health page while the attack went on."""
    longest, done = 0.0, threading.Event()

    def watch() -> None:
        nonlocal longest
        with httpx2.Client(base_url=server.url, trust_env=False, timeout=30) as http:
            while not done.is_set():
                began = time.monotonic()
                assert http.get("/api/v1/health").status_code == 200
                longest = max(longest, time.monotonic() - began)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        time.sleep(0.1)
        attack()
    finally:
        done.set()
        watcher.join()
    return longest
