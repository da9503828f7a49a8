# SPDX-License-Identifier: MIT
"""Handing metrics over: sockets, the server, the file."""

from __future__ import annotations

import http.client
import os
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyxc.metrics import Refused, activated, drop_root, on_loopback, on_path, write_textfile
from pyxc.metrics.server import CLIENTS_MOST, CONTENT_TYPE, MetricsServer


@pytest.fixture
def server() -> Iterator[MetricsServer]:
    """One whose metrics are x 1."""
    made = MetricsServer(on_loopback("127.0.0.1", 0), lambda: "x 1\n")
    thread = threading.Thread(target=made.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield made
    made.shutdown()
    thread.join()
    made.server_close()


def ask(server: MetricsServer, path: str, method: str = "GET") -> tuple[int, str | None, bytes]:
    client = http.client.HTTPConnection(*server.socket.getsockname(), timeout=10)
    try:
        client.request(method, path)
        answer = client.getresponse()
        return answer.status, answer.getheader("Content-Type"), answer.read()
    finally:
        client.close()


def test_metrics(server: MetricsServer) -> None:
    assert ask(server, "/metrics") == (200, CONTENT_TYPE, b"x 1\n")
    assert ask(server, "/metrics?collect[]=all") == (200, CONTENT_TYPE, b"x 1\n")
    assert ask(server, "/metrics", "HEAD") == (200, CONTENT_TYPE, b"")


def test_other_paths(server: MetricsServer) -> None:
    status, kind, body = ask(server, "/")
    assert (status, kind) == (200, "text/html") and b"/metrics" in body
    assert ask(server, "/etc/passwd")[0] == 404
    assert ask(server, "/metrics", "POST")[0] == 501


def test_clients_that_say_nothing_do_not_stop_it(server: MetricsServer) -> None:
    idle = [socket.create_connection(server.socket.getsockname()) for _ in range(CLIENTS_MOST - 1)]
    assert ask(server, "/metrics")[0] == 200
    for client in idle:
        client.close()


def test_there_is_a_limit_of_clients_and_places_come_back(server: MetricsServer) -> None:
    for _ in range(2):
        idle = [socket.create_connection(server.socket.getsockname()) for _ in range(CLIENTS_MOST + 3)]
        closed = [client for client in idle[CLIENTS_MOST:] if client.recv(1) == b""]
        assert len(closed) == 3
        for client in idle:
            client.close()
        while True:
            try:
                assert ask(server, "/metrics")[0] == 200
                break
            except (http.client.HTTPException, ConnectionError):
                continue


def test_loopback_only() -> None:
    for address in ("0.0.0.0", "192.0.2.1", "::", "localhost", ""):
        with pytest.raises(Refused):
            on_loopback(address, 0)


def test_a_unix_socket_is_for_its_owner_and_group(plain_directory: Path) -> None:
    path = str(plain_directory / "metrics.sock")
    with on_path(path):
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o660
        with pytest.raises(FileExistsError, match="in use"):
            on_path(path)
    with on_path(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(path)


def test_a_file_is_not_replaced_by_a_socket(plain_directory: Path) -> None:
    path = plain_directory / "metrics.sock"
    path.write_text("precious")
    with pytest.raises(FileExistsError, match="not a socket"):
        on_path(str(path))
    assert path.read_text() == "precious"


def test_a_place_that_cannot_be_had_is_named(plain_directory: Path) -> None:
    with on_loopback("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match=f"in use: '127.0.0.1:{port}'"):
            on_loopback("127.0.0.1", port)
    path = f"{plain_directory}/missing/metrics.sock"
    with pytest.raises(FileNotFoundError, match=path):
        on_path(path)


SERVICE = """
import os, sys
from pyxc.metrics import activated, Refused
os.environ["LISTEN_PID"] = str(os.getpid())
os.dup2(int(sys.argv[1]), 3)
try:
    found = activated()
except Refused as error:
    print(error)
else:
    print(found.getsockname()[1], os.get_inheritable(3), "LISTEN_FDS" in os.environ)
"""


@pytest.mark.parametrize("count", ["1", "2"])
def test_a_socket_of_systemd(count: str) -> None:
    with on_loopback("127.0.0.1", 0) as listening:
        command = [sys.executable, "-c", SERVICE, str(listening.fileno())]
        environment = {**os.environ, "LISTEN_FDS": count}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, pass_fds=[listening.fileno()]
        )
        port = listening.getsockname()[1]
    expected = f"{port} False False" if count == "1" else "systemd hands over 2 sockets: one is expected"
    assert done.stdout.strip() == expected, done.stderr


def test_a_socket_for_another_process_is_left_alone() -> None:
    environment = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x", "PATH": "/bin"}
    assert activated(environment) is None
    assert environment == {"PATH": "/bin"}


def test_an_unknown_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 0)
    with pytest.raises(ValueError, match="no user"):
        drop_root("no-such-user-here")


def test_a_textfile(tmp_path: Path) -> None:
    path = tmp_path / "xen.prom"
    for text in ("x 1\n", "x 2\n"):
        write_textfile(path, text)
        assert path.read_text() == text
    assert stat.S_IMODE(path.stat().st_mode) == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_textfile_that_fails_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "xen.prom"
    write_textfile(path, "x 1\n")
    with pytest.raises(UnicodeEncodeError):
        write_textfile(path, "x \ud800\n")
    assert (list(tmp_path.iterdir()), path.read_text()) == ([path], "x 1\n")


def test_a_name_that_node_exporter_does_not_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.prom"):
        write_textfile(tmp_path / "xen.txt", "x 1\n")
