"""The origin service: the server at the far end, B in the scenarios.

It uses one thread and one selector: a thousand connections need a thousand small records, not a thousand
thread stacks.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import json
import os
import re
import selectors
import signal
import socket
import stat
import struct
import sys
import time
from pathlib import Path
from typing import Any

from ..basics import AgentError, Json, describe_error, patient
from ..kernel.socket_facts import socket_facts
from ..sockets import open_listener
from ..tools import notify
from .connection import OriginConnection

RECORDS_KEPT = 20000  # records of closed connections that are kept
TIMELINES_KEPT = 500  # the newest closed connections that keep their timeline
GREETING_SECONDS = 30.0  # a client that has not greeted by then is disconnected
MOST_PER_PEER = 4096  # open connections from one address; further ones are reset
REST_SECONDS = 0.25  # a listener accepts nothing for so long when file descriptors or memory are used up
EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
REQUEST_LIMIT, ANSWER_LIMIT = 1 << 16, 1 << 26
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,62}")
RST_ON_CLOSE = struct.pack("ii", 1, 0)  # struct linger


def control_path(name: str) -> Path:
    """Return the path of the Unix socket that answers queries about an origin service.

    Its folder belongs to the service's user and holds nothing else that root reads. Raises AgentError
    "origin" for a name that is not allowed.
    """
    if not NAME.fullmatch(name):
        raise AgentError("origin", f"{name!r} is no name of an origin service")
    return Path(f"/run/mptcp-lab-origin-{name}/control")


class Origin:
    """The service: its listeners, its connections, and the Unix socket that answers queries about them."""

    def __init__(self, config: Json) -> None:
        self.selector = selectors.DefaultSelector()
        self.connections: dict[int, OriginConnection] = {}
        self.tagged: dict[str, list[OriginConnection]] = {}
        self.accepted = 0
        self.accepting = True
        self.pause_new = False
        self.refused = 0
        self._greeting_seconds = float(config.get("greeting_seconds", GREETING_SECONDS))
        self._most_per_peer = int(config.get("most_per_peer", MOST_PER_PEER))
        self._peers: collections.Counter[str] = collections.Counter()
        self._ungreeted: collections.deque[tuple[float, OriginConnection]] = collections.deque()
        self._resting: dict[socket.socket, tuple[float, Any]] = {}
        self._paced: dict[int, OriginConnection] = {}
        self._closed: collections.deque[int] = collections.deque()
        self.listeners = [(listener, self._listen(listener)) for listener in config["listeners"]]
        for listener, sock in self.listeners:
            self.selector.register(sock, selectors.EVENT_READ, (self._accept, listener))
        self.control_path = control_path(config["name"])
        self._control = self._open_control()
        self.selector.register(self._control, selectors.EVENT_READ, (self._accept_control, None))

    @staticmethod
    def _listen(listener: Json) -> socket.socket:
        where = f"{listener['address']} port {listener['port']}"
        try:
            protocol = listener.get("protocol", "mptcp")
            device, shape = listener.get("device"), listener.get("shape", "")
            return open_listener(listener["address"], listener["port"], protocol, device, 1024, shape)
        except OSError as error:
            raise AgentError("listen", f"cannot listen on {where}: {error.strerror}", error.errno) from None

    def _open_control(self) -> socket.socket:
        self.control_path.parent.mkdir(mode=0o700, exist_ok=True)  # under systemd it exists already
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
        """Serve until the process ends (SIGTERM)."""
        notify("READY=1")
        while True:
            for key, mask in self.selector.select(self._next_timeout()):
                action, context = key.data
                try:
                    action(key.fileobj, context, mask)
                except OSError as error:
                    if error.errno not in EXHAUSTED:
                        self._drop(key)
                    else:
                        self._rest(key)
                except Exception as error:  # data from one peer must not end the service
                    sys.stderr.write(f"origin: {type(error).__name__}: {error}\n")
                    self._drop(key)
            self._wake_rested()
            self._wake_paced()
            self._expire_greetings()

    def _drop(self, key: selectors.SelectorKey) -> None:
        """Close the connection that raised an exception; a listener stays open."""
        sock, (action, context) = key.fileobj, key.data
        if action == self._serve:
            if context.open:
                descriptor = context.sock.fileno()
                context.close("error", "failed")
                self._retire(context, descriptor)
        elif action == self._serve_control and isinstance(sock, socket.socket):
            with contextlib.suppress(KeyError, ValueError):
                self.selector.unregister(sock)
            sock.close()

    def _rest(self, key: selectors.SelectorKey) -> None:
        """Remove a listener from the selector for `REST_SECONDS`: it would be ready again at once."""
        if isinstance(key.fileobj, socket.socket) and key.data[0] in (self._accept, self._accept_control):
            self.selector.unregister(key.fileobj)
            self._resting[key.fileobj] = (time.monotonic() + REST_SECONDS, key.data)
        else:
            self._drop(key)

    def _wake_rested(self) -> None:
        for sock, (until, data) in list(self._resting.items()):
            if until <= time.monotonic():
                del self._resting[sock]
                self.selector.register(sock, selectors.EVENT_READ, data)

    def _wake_paced(self) -> None:
        """Let the connections send whose next chunk is due."""
        for number, connection in list(self._paced.items()):
            if not connection.is_paced:
                del self._paced[number]
                if connection.open:
                    self._rearm(connection)

    def _next_timeout(self) -> float | None:
        times = [until for until, _ in self._resting.values()]
        times += [until for until, _ in list(self._ungreeted)[:1]]
        times += [connection.due for connection in self._paced.values()]
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _expire_greetings(self) -> None:
        """Close connections whose greeting is late; a connection whose reading is paused gets more time."""
        now = time.monotonic()
        while self._ungreeted and self._ungreeted[0][0] <= now:
            _, connection = self._ungreeted.popleft()
            if connection.is_greeted or not connection.open:
                continue
            if connection.paused:
                self._ungreeted.append((now + self._greeting_seconds, connection))
                continue
            descriptor = connection.sock.fileno()
            connection.close("bad-start", f"no greeting within {self._greeting_seconds:g} s")
            self._retire(connection, descriptor)

    def _accept(self, listening: socket.socket, listener: Json, _: int) -> None:
        try:
            sock, peer = listening.accept()
        except OSError as error:
            if error.errno in EXHAUSTED:
                raise
            return  # the client closed the connection before it was accepted
        if self._peers[peer[0]] >= self._most_per_peer:
            self.refused += 1
            with sock:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
            return
        try:
            connection = OriginConnection(self.accepted + 1, listener, sock, self.pause_new, peer[0])
        except BaseException:
            sock.close()
            raise
        self.accepted += 1
        self._peers[peer[0]] += 1
        self.connections[connection.number] = connection
        self._ungreeted.append((time.monotonic() + self._greeting_seconds, connection))
        self._rearm(connection)

    def _serve(self, _: socket.socket, connection: OriginConnection, mask: int) -> None:
        if not connection.open:  # an earlier event of the same select() call has closed it
            return
        descriptor = connection.sock.fileno()
        known = connection.tag
        connection.handle(mask)
        if connection.tag != known:
            self.tagged.setdefault(connection.tag, []).append(connection)
        if connection.open:
            self._rearm(connection)
            return
        self._retire(connection, descriptor)

    def _retire(self, connection: OriginConnection, descriptor: int) -> None:
        """Remove a closed connection from the selector, and drop timelines and records that are too old."""
        if connection.events:
            self.selector.unregister(descriptor)
            connection.events = 0
        self._peers[connection.peer] -= 1
        if self._peers[connection.peer] <= 0:
            del self._peers[connection.peer]
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
        if connection.is_paced:
            self._paced[connection.number] = connection
        wanted = connection.wanted_events()
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
        if data and b"\n" not in buffer and len(buffer) <= REQUEST_LIMIT:
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
        except Exception as error:
            return {"ok": False, "error": describe_error(error)}

    def _find_connections(self, number: int | None, tag: str | None) -> list[OriginConnection]:
        found = self.connections.values() if tag is None else self.tagged.get(tag, [])
        return [connection for connection in found if number in (None, connection.number)]

    def ask_connections(self, since: int = 0, tag: str | None = None, timeline: bool = True) -> list[Json]:
        """Return the records of the connections with a number above `since`, and with this tag if given."""
        return [c.document(timeline) for c in self._find_connections(None, tag) if c.number > since]

    def ask_facts(self, number: int) -> Json:
        """Return the current socket facts of a connection, or the last ones if it has ended."""
        connection = self.connections[number]
        return socket_facts(connection.sock) if connection.open else dict(connection.record["facts"])

    def ask_counts(self) -> Json:
        """Return the numbers of accepted, refused and open connections, and whether the service accepts."""
        open_now = sum(connection.open for connection in self.connections.values())
        counts = {"accepted": self.accepted, "refused": self.refused, "open": open_now}
        return {**counts, "accepting": self.accepting}

    def ask_reading(self, paused: bool, number: int | None = None, tag: str | None = None) -> int:
        """Stop or resume reading, and return the number of open connections that this affects.

        `number` or `tag` selects the connections; without them it applies to all, future ones included.
        """
        if number is None and tag is None:
            self.pause_new = paused
        chosen = [connection for connection in self._find_connections(number, tag) if connection.open]
        for connection in chosen:
            connection.paused = paused
            self._rearm(connection)
        return len(chosen)

    def ask_reset(self, tag: str) -> int:
        """Close the open connections of a tag with RST, and return how many there were."""
        chosen = [connection for connection in self._find_connections(None, tag) if connection.open]
        for connection in chosen:
            descriptor = connection.sock.fileno()
            connection.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RST_ON_CLOSE)
            connection.close("reset", None)
            self._retire(connection, descriptor)
        return len(chosen)

    def ask_stop_sending(self, tag: str) -> int:
        """End the pattern on the open connections of a tag, and return how many there were."""
        chosen = [connection for connection in self._find_connections(None, tag) if connection.open]
        for connection in chosen:
            descriptor = connection.sock.fileno()
            connection.stop_sending()
            if connection.open:
                self._rearm(connection)
            else:
                self._retire(connection, descriptor)
        return len(chosen)

    def ask_accepting(self, paused: bool) -> bool:
        """Stop or resume accepting, and return whether the service accepts now.

        The kernel still completes handshakes up to the backlog.
        """
        if paused == self.accepting:
            for listener, sock in self.listeners:
                if paused:
                    if self._resting.pop(sock, None) is None:
                        self.selector.unregister(sock)
                else:
                    self.selector.register(sock, selectors.EVENT_READ, (self._accept, listener))
            self.accepting = not paused
        return self.accepting


def origin_main(config_file: Path) -> int:
    """Run the origin service with a configuration file (JSON: name, listeners); return the exit status."""
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
        origin.control_path.unlink(missing_ok=True)
    return 0


def ask_origin(name: str, request: Json) -> Any:
    """Send a request to an origin service on this host and return its result; see Origin.ask_*.

    Raises AgentError "origin" if the service cannot be reached, or answers with an error.
    """
    path = control_path(name)
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.settimeout(patient(5))
        try:
            sock.connect(str(path))
        except OSError as error:
            message = f"no origin service answers on {path}: {error.strerror}; look at the service's journal"
            raise AgentError("origin", message, error.errno) from None
        _check_served_by_owner(path, sock)
        sock.sendall(json.dumps(request).encode() + b"\n")
        with sock.makefile("rb") as lines:
            line = lines.readline(ANSWER_LIMIT)
    try:
        answer = json.loads(line)
        if answer["ok"]:
            return answer["result"]
        message, number = str(answer["error"]["message"]), answer["error"].get("errno")
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        raise AgentError("origin", f"{path} does not answer as an origin service does") from None
    raise AgentError("origin", message, number if isinstance(number, int) else None)


def _check_served_by_owner(path: Path, sock: socket.socket) -> None:
    """Raise AgentError unless the socket's process runs as the user whose folder holds the socket.

    The service's user can replace the socket by a symbolic link; a request must not reach another program.
    """
    uid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[1]
    if not stat.S_ISSOCK(path.lstat().st_mode) or path.parent.lstat().st_uid != uid:
        raise AgentError("origin", f"{path} is not served by the owner of its folder; restart the service")
