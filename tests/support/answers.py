"""A peer of the command line: a server whose answers a test gives, as the real one would give them."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import StringIO
from pathlib import Path
from threading import Thread
from typing import Any
from unittest.mock import patch

from pilothouse.cli import main
from pilothouse.errors import PilothouseError
from pilothouse.http.errors import error_response


@dataclass
class Answers:
    """Answers by method and path (without its query), and what was asked; what has none is a 404."""

    url: str
    home: Path
    by_request: dict[str, Any] = field(default_factory=dict)
    asked: list[tuple[str, Any]] = field(default_factory=list)

    def typed(self, *words: str, environment: Mapping[str, str] | None = None) -> "subprocess.CompletedProcess[str]":
        """Run a command against this server, in the namespace ``shop`` of the cluster ``demo``; in this process."""
        place = {"PILOTHOUSE_URL": self.url, "PILOTHOUSE_TOKEN": "t", "PILOTHOUSE_CLUSTER": "demo"}
        variables = {"PATH": os.environ["PATH"], "HOME": str(self.home), "PILOTHOUSE_NAMESPACE": "shop", **place}
        out, errors, status = StringIO(), StringIO(), 0
        with (
            patch.dict(os.environ, {**variables, **(environment or {})}, clear=True),
            patch.object(sys, "argv", ["pilothouse", *words]),
            redirect_stdout(out),
            redirect_stderr(errors),
        ):
            try:
                main()
            except SystemExit as ended:
                status = int(ended.code or 0)
        return subprocess.CompletedProcess(["pilothouse", *words], status, out.getvalue(), errors.getvalue())


@contextmanager
def answering(home: Path, answers: Mapping[str, Any]) -> Iterator[Answers]:
    """Yield a server with these answers; an error is answered as the native API does, an OSError by no answer."""
    found = Answers("", home, dict(answers))

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            request = f"{self.command} {self.path.partition('?')[0]}"
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            found.asked.append((request, json.loads(content) if content else None))
            answer, status = found.by_request.get(request), 200
            if isinstance(answer, OSError):
                self.close_connection = True
                return
            if isinstance(answer, PilothouseError):
                response = error_response(answer, native=True)
                body, status = bytes(response.body), response.status_code
            else:
                body, status = json.dumps(answer).encode(), 404 if answer is None else 200
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_DELETE = _answer  # noqa: N815 (names of the library)

        def log_message(self, *_: Any) -> None:
            """Write nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found.url = f"http://127.0.0.1:{server.server_port}"
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
