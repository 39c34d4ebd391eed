"""Keystone's own application on loopback, for tests.

It runs in an environment of its own (``tests.support.keystone``), where nothing of Pilothouse is installed:
``python start.py PORT``, with OS_KEYSTONE_CONFIG_FILES naming its configuration.
"""

import sys
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from keystone.server.wsgi import initialize_public_application


class Server(ThreadingMixIn, WSGIServer):
    """Answer several requests at a time, as a server of Keystone does."""

    daemon_threads = True
    request_queue_size = 64


class Handler(WSGIRequestHandler):
    """Note each request as ``METHOD PATH``: what Keystone was asked is what tests count."""

    def log_request(self, code="-", size="-"):  # noqa: ARG002 - as the server calls it
        """Write a line."""
        sys.stderr.write(f"{self.command} {self.path} {code}\n")
        sys.stderr.flush()


PORT = int(sys.argv.pop())  # Keystone reads the rest itself
with make_server("127.0.0.1", PORT, initialize_public_application(), Server, Handler) as server:
    server.serve_forever()
