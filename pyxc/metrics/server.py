# SPDX-License-Identifier: MIT
"""A small HTTP server for metrics, on a socket that is open already."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from socketserver import BaseServer, ThreadingMixIn
from typing import Any

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
CLIENTS_MOST = 16
"""Connections at once; more are closed at once."""
_PATIENCE_S = 10.0
"""How long a client may be silent."""
_START = b"<!doctype html><title>pyxc</title><p><a href=/metrics>metrics</a>\n"


class MetricsServer(ThreadingMixIn, BaseServer):
    """Serves what `render` makes under /metrics. It starts a thread for each client, and limits their number.
    Threads: one at a time."""

    daemon_threads = True
    block_on_close = False

    def __init__(self, listening: socket.socket, render: Callable[[], str]) -> None:
        super().__init__(listening.getsockname(), _handler(render))
        self.socket = listening
        self._places = threading.BoundedSemaphore(CLIENTS_MOST)

    def fileno(self) -> int:
        """What serve_forever() waits on."""
        return self.socket.fileno()

    def get_request(self) -> tuple[socket.socket, str]:
        connection, _ = self.socket.accept()
        return connection, ""

    def verify_request(self, request: Any, client_address: object) -> bool:
        """Whether there is a place for another client."""
        return self._places.acquire(blocking=False)

    def process_request(self, request: Any, client_address: object) -> None:
        """Start its thread, which gives the place back."""
        try:
            super().process_request(request, client_address)
        except BaseException:
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: object) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def shutdown_request(self, request: Any) -> None:
        """End a connection, whatever its state."""
        request.close()

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that disconnects is not an error of the server."""

    def server_close(self) -> None:
        self.socket.close()


def _handler(render: Callable[[], str]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = _PATIENCE_S
        server_version = "pyxc"
        sys_version = ""

        def do_GET(self) -> None:
            self._respond()

        def do_HEAD(self) -> None:
            self._respond()

        def _respond(self) -> None:
            path = self.path.partition("?")[0]
            if path == "/metrics":
                self._send(CONTENT_TYPE, render().encode())
            elif path == "/":
                self._send("text/html", _START)
            else:
                self.send_error(HTTPStatus.NOT_FOUND)

        def _send(self, kind: str, body: bytes) -> None:
            self.send_response(HTTPStatus.OK)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            """Scrapes are not logged."""

    return Handler


def serve(listening: socket.socket, render: Callable[[], str]) -> None:
    """Serve metrics on a listening socket until the process ends; closes the socket."""
    server = MetricsServer(listening, render)
    try:
        server.serve_forever(poll_interval=3600)
    finally:
        server.server_close()
