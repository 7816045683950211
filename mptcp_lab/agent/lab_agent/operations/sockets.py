"""Operations on sockets: listen, accept, connect, read facts, set options."""

from __future__ import annotations

import base64
import socket
import time
from typing import Any

from ..basics import AgentError, Json, patient
from ..connections import Listener, connect
from ..kernel.socket_diag import destroy_socket
from ..kernel.socket_facts import plain_address, readable_octets, socket_facts, socket_name
from ..many import Many
from ..sockets import new_socket, open_listener, try_options
from ..streams import Stream
from .base import Operations


class SocketOperations(Operations):
    """Open sockets, read and set them, and close what was opened."""

    def op_listen(
        self,
        address: str,
        port: int,
        protocol: str = "mptcp",
        device: str | None = None,
        hold: bool = False,
        backlog: int = 1024,
        shape: str = "",
        transparent: bool = False,
    ) -> Json:
        """Listen as open_listener describes; connections are accepted at once unless `hold`."""
        sock = open_listener(address, port, protocol, device, backlog, shape, transparent)
        return {
            "listener": self.open.add("listener", Listener(sock, hold)),
            "local": socket_name(sock.getsockname),
        }

    def op_release(self, listener: str) -> None:
        """Begin to accept on a listener that was opened with `hold`."""
        self.open.get(listener).release()

    def op_accept(self, listener: str, timeout: float = 5.0) -> Json:
        """Return the next accepted connection; raise AgentError "timeout" if none comes in time."""
        stream, peer, when = self.open.get(listener).take(timeout)
        return {
            "stream": self.open.add("stream", stream),
            "peer": [plain_address(peer[0]), peer[1]],
            "local": socket_name(stream.sock.getsockname),
            "at": when,
        }

    def op_accepted(self, listener: str) -> int:
        """Return how many connections a listener has accepted."""
        return int(self.open.get(listener).accepted)

    def op_connect(
        self,
        address: str,
        port: int,
        protocol: str = "mptcp",
        source: str | None = None,
        device: str | None = None,
        timeout: float = 5.0,
    ) -> Json:
        """Open a connection within `timeout` seconds; see connect."""
        stream, seconds = connect(address, port, protocol, source, device, timeout)
        return {
            "stream": self.open.add("stream", stream),
            "local": socket_name(stream.sock.getsockname),
            "peer": socket_name(stream.sock.getpeername),
            "seconds": seconds,
            "at": time.monotonic(),
        }

    def op_many(
        self,
        address: str,
        port: int,
        message: str,
        expect: int,
        count: int,
        concurrent: int = 1,
        hold: bool = False,
        protocol: str = "mptcp",
        source: str | None = None,
        timeout: float = 30.0,
    ) -> Json:
        """Open many short connections; `message` is in base64. See Many."""
        batch = Many(base64.b64decode(message), expect, concurrent, hold)
        return batch.run(count, patient(timeout), (address, port), protocol, source)

    def op_facts(self, stream: str) -> Json:
        """See socket_facts."""
        return socket_facts(self.open.get(stream).sock)

    def op_readable(self, stream: str) -> Json:
        """See readable_octets."""
        return readable_octets(self.open.get(stream).sock)

    def op_setsockopt(self, stream: str, level: int, option: int, value: int | str) -> None:
        """Set an option of a stream to an int, or to bytes given in base64."""
        data = base64.b64decode(value) if isinstance(value, str) else value
        self.open.get(stream).sock.setsockopt(level, option, data)

    def op_try_options(self, stream: str, options: list[list[Any]]) -> list[Json]:
        """See try_options."""
        return try_options(self.open.get(stream).sock, options)

    def op_try_new_options(self, protocol: str, address: str, options: list[list[Any]]) -> list[Json]:
        """Run try_options on a new socket that is not connected, of the address's family."""
        with new_socket(address, protocol) as sock:
            return try_options(sock, options)

    def op_kill_subflow(self, stream: str, local: list[Any], remote: list[Any]) -> None:
        """Abort one subflow of a stream; see destroy_socket. `local` and `remote` are [address, port]."""
        subflows = socket_facts(self.open.get(stream).sock)["subflows"] or []
        known = {(s["local"], s["lport"], s["remote"], s["rport"]) for s in subflows}
        if (*local, *remote) not in known:
            raise AgentError("refused", f"{stream} has no subflow from {local} to {remote}")
        destroy_socket((local[0], local[1]), (remote[0], remote[1]))

    def op_shutdown(self, stream: str) -> None:
        """Shut down the sending direction of a stream."""
        self.open.get(stream).sock.shutdown(socket.SHUT_WR)

    def op_close(self, item: str, reset: bool = False) -> None:
        """Close an open item of any kind; `reset` closes a stream with RST."""
        opened = self.open.pop(item)
        if isinstance(opened, Stream):
            opened.close(reset)
        else:
            opened.close()
