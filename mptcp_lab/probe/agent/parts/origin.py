"""The origin service: B of the scenarios.

One thread and one selector: a thousand connections cost a thousand small records, not a thousand stacks.
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import selectors
import signal
import socket
import struct
import sys
from pathlib import Path
from typing import Any

from .basics import RUN, AgentError, Json, describe_error, patient
from .files import make_run_folder
from .origin_connection import OriginConnection
from .socket_facts import socket_facts
from .sockets import open_listener
from .tools import notify

RECORDS_KEPT = 20000  # closed connections remembered
TIMELINES_KEPT = 500  # of those, how many of the newest keep their timeline


class Origin:
    """The service: listeners, connections, and the local socket that answers queries about them."""

    def __init__(self, config: Json) -> None:
        self.selector = selectors.DefaultSelector()
        self.connections: dict[int, OriginConnection] = {}
        self.tagged: dict[str, list[OriginConnection]] = {}
        self.accepted = 0
        self.accepting = True
        self.pause_new = False
        self._closed: collections.deque[int] = collections.deque()
        self.listeners = [(listener, self._listen(listener)) for listener in config["listeners"]]
        for listener, sock in self.listeners:
            self.selector.register(sock, selectors.EVENT_READ, (self._accept, listener))
        self.control_path = RUN / f"origin-{config['name']}.sock"
        self._control = self._open_control()
        self.selector.register(self._control, selectors.EVENT_READ, (self._accept_control, None))

    @staticmethod
    def _listen(listener: Json) -> socket.socket:
        where = f"{listener['address']} port {listener['port']}"
        try:
            protocol = listener.get("protocol", "mptcp")
            return open_listener(
                listener["address"], listener["port"], protocol, listener.get("device"), 1024
            )
        except OSError as error:
            raise AgentError("listen", f"cannot listen on {where}: {error.strerror}", error.errno) from None

    def _open_control(self) -> socket.socket:
        make_run_folder()
        with contextlib.suppress(FileNotFoundError):
            self.control_path.unlink()
        control = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        mask = os.umask(0o177)
        try:
            control.bind(str(self.control_path))
        finally:
            os.umask(mask)
        control.listen(16)
        control.setblocking(False)
        return control

    def run(self) -> None:
        """Serve until the process is told to end."""
        notify("READY=1")
        while True:
            for key, mask in self.selector.select():
                action, context = key.data
                action(key.fileobj, context, mask)

    def _accept(self, listening: socket.socket, listener: Json, _: int) -> None:
        try:
            sock, _peer = listening.accept()
        except OSError:  # gone again before it was accepted, or out of descriptors: the next round tells
            return
        self.accepted += 1
        connection = OriginConnection(self.accepted, listener, sock, self.pause_new)
        self.connections[connection.number] = connection
        self._rearm(connection)

    def _serve(self, _: socket.socket, connection: OriginConnection, mask: int) -> None:
        sock = connection.sock
        descriptor = sock.fileno()
        known = connection.tag
        connection.handle(mask)
        if connection.tag != known:
            self.tagged.setdefault(connection.tag, []).append(connection)
        if connection.open:
            self._rearm(connection)
            return
        self._retire(connection, descriptor)

    def _retire(self, connection: OriginConnection, descriptor: int) -> None:
        """Wait for a closed connection no more, and forget what is too old."""
        if connection.events:
            self.selector.unregister(descriptor)
        self._closed.append(connection.number)
        if len(self._closed) > TIMELINES_KEPT:
            self.connections[self._closed[-TIMELINES_KEPT - 1]].forget_timeline()
        if len(self._closed) > RECORDS_KEPT:
            self._forget(self.connections.pop(self._closed.popleft()))

    def _forget(self, connection: OriginConnection) -> None:
        same_tag = self.tagged.get(connection.tag, [])
        if connection in same_tag:
            same_tag.remove(connection)
            if not same_tag:
                del self.tagged[connection.tag]

    def _rearm(self, connection: OriginConnection) -> None:
        wanted = connection.wanted()
        if wanted == connection.events:
            return
        data = (self._serve, connection)
        if not connection.events:
            self.selector.register(connection.sock, wanted, data)
        elif not wanted:
            self.selector.unregister(connection.sock)
        else:
            self.selector.modify(connection.sock, wanted, data)
        connection.events = wanted

    def _accept_control(self, listening: socket.socket, _context: None, _mask: int) -> None:
        client, _ = listening.accept()
        self.selector.register(client, selectors.EVENT_READ, (self._serve_control, bytearray()))

    def _serve_control(self, client: socket.socket, buffer: bytearray, _mask: int) -> None:
        data = client.recv(65536)
        buffer += data
        if data and b"\n" not in buffer:
            return
        self.selector.unregister(client)
        with client, contextlib.suppress(OSError):
            client.settimeout(2)  # the peer is the probe on this host, reading
            client.sendall(json.dumps(self._answer(bytes(buffer))).encode() + b"\n")

    def _answer(self, line: bytes) -> Json:
        try:
            request = json.loads(line)
            action = getattr(self, "ask_" + str(request.pop("ask")))
            return {"ok": True, "result": action(**request)}
        except (AgentError, AttributeError, KeyError, OSError, TypeError, ValueError) as error:
            return {"ok": False, "error": describe_error(error)}

    def _matching(self, number: int | None, tag: str | None) -> list[OriginConnection]:
        found = self.connections.values() if tag is None else self.tagged.get(tag, [])
        return [connection for connection in found if number in (None, connection.number)]

    def ask_connections(self, since: int = 0, tag: str | None = None, timeline: bool = True) -> list[Json]:
        """Records of the connections after number `since`, by tag if given."""
        return [c.document(timeline) for c in self._matching(None, tag) if c.number > since]

    def ask_facts(self, number: int) -> Json:
        """Live socket facts of a connection; those at its end when it has ended."""
        connection = self.connections[number]
        return socket_facts(connection.sock) if connection.open else dict(connection.record["facts"])

    def ask_counts(self) -> Json:
        """How many were accepted, how many are open."""
        open_now = sum(connection.open for connection in self.connections.values())
        return {"accepted": self.accepted, "open": open_now, "accepting": self.accepting}

    def ask_reading(self, paused: bool, number: int | None = None, tag: str | None = None) -> int:
        """Stop or go on reading: one connection, a tag, or all present and future; returns how many."""
        if number is None and tag is None:
            self.pause_new = paused
        chosen = [connection for connection in self._matching(number, tag) if connection.open]
        for connection in chosen:
            connection.paused = paused
            self._rearm(connection)
        return len(chosen)

    def ask_reset(self, tag: str) -> int:
        """Close a tag's connections with RST; returns how many."""
        chosen = [connection for connection in self._matching(None, tag) if connection.open]
        for connection in chosen:
            descriptor = connection.sock.fileno()
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close("reset", None)
            self._retire(connection, descriptor)
        return len(chosen)

    def ask_accepting(self, paused: bool) -> bool:
        """Stop or go on accepting; the kernel still completes handshakes up to the backlog."""
        if paused == self.accepting:
            for listener, sock in self.listeners:
                if paused:
                    self.selector.unregister(sock)
                else:
                    self.selector.register(sock, selectors.EVENT_READ, (self._accept, listener))
            self.accepting = not paused
        return self.accepting


def origin_main(config_file: Path) -> int:
    """Run the origin service by its configuration file (JSON: name, listeners)."""
    try:
        config = json.loads(config_file.read_text())
        origin = Origin(config)
    except (OSError, KeyError, TypeError, ValueError, AgentError) as error:
        example = (
            '{"name": "server1", "listeners": [{"address": "198.18.1.5", "port": 7000, "protocol": "mptcp"}]}'
        )
        sys.stderr.write(f"origin: {config_file}: {type(error).__name__}: {error}\nexample: {example}\n")
        return 2

    def stop(*_: object) -> None:
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, stop)
    try:
        origin.run()
    finally:
        origin.control_path.unlink()
    return 0


def ask_origin(name: str, request: Json) -> Any:
    """Ask an origin on this host; see Origin.ask_*."""
    path = RUN / f"origin-{name}.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(patient(5))
        try:
            sock.connect(str(path))
        except OSError as error:
            message = f"no origin service answers on {path}: {error.strerror}; look at the service's journal"
            raise AgentError("origin", message, error.errno) from None
        sock.sendall(json.dumps(request).encode() + b"\n")
        with sock.makefile("rb") as lines:
            answer = json.loads(lines.readline() or b'{"ok": false, "error": {"message": "it closed"}}')
    if not answer["ok"]:
        raise AgentError("origin", answer["error"]["message"], answer["error"].get("errno"))
    return answer["result"]
