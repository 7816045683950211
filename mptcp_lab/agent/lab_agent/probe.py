"""The probe: it reads calls as JSON lines, and writes answers and events.

It answers {"id": n, "op": "...", "args": {}} with {"id": n, "ok": true, "result": {}} or
{"id": n, "ok": false, "error": {"kind", "message", "errno"}}. Every call runs in a separate thread, so that
several calls can be in flight. Lines without an id are events: {"event": "heartbeat"} about every second, and
the events that the controller subscribed to.
The probe ends when its standard input ends: it closes sockets, stops captures, kills commands, lifts faults.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import json
import os
import platform
import socket
import sys
import threading
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from .basics import AgentError, Json, Registry, describe_error, patient, read_clock, set_patience
from .capture import Capture
from .connections import Listener, connect
from .examine.document import examine
from .examine.network import look_up
from .faults.plan import MANAGEMENT
from .faults.records import lift_fault, read_faults
from .faults.registry import AppliedFault, apply_fault, change_endpoints, keep_keeper, recover_faults
from .kernel.capabilities import read_capabilities
from .kernel.events import EventWatch
from .kernel.host import (
    IP_READINGS,
    read_command_line,
    read_counters,
    read_nics,
    read_sysctls,
    read_tool,
)
from .kernel.log import KernelLog
from .kernel.network_state import network_state, watched_readings
from .kernel.path_manager import PathManager
from .kernel.socket_diag import destroy_socket
from .kernel.socket_facts import plain_address, readable_octets, socket_facts, socket_name
from .kernel.socket_program import SocketProgram
from .lease import refresh_lease, release_lease, take_lease
from .many import Many
from .origin.service import ask_origin
from .relay import Relay
from .sockets import new_socket, open_listener, try_options
from .streams import Stream, Transfer, start_echo, start_receive, start_send
from .tools import Commands

HEARTBEAT = 1.0
TRANSFERS_KEPT = 5000  # transfers whose results stay available


class Probe:
    """Runs the operations (methods op_*) that arrive over a channel of JSON lines."""

    def __init__(self, source: Any, sink: Any) -> None:
        self._source = source
        self._sink = sink
        self._write_lock = threading.Lock()
        self._ended = threading.Event()
        self.open = Registry()
        self.transfers = Registry()
        self._recent: collections.deque[str] = collections.deque()
        self.commands = Commands()
        self._capabilities: Json | None = None
        self._kernel_log: KernelLog | None = None
        self._readings = watched_readings()

    def run(self) -> None:
        """Serve until the channel ends, then kill all commands and close everything that is open."""
        threading.Thread(target=self._beat, daemon=True).start()
        threading.Thread(target=self._keep_keeper, daemon=True).start()
        try:
            for line in self._source:
                request = json.loads(line)
                threading.Thread(target=self._serve, args=(request,), daemon=True).start()
        finally:
            self._ended.set()
            self.commands.close()
            for item in self.open.drain():
                with contextlib.suppress(OSError, AgentError):
                    item.close()

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT):
            self.say({"event": "heartbeat", "at": time.monotonic()})

    def _keep_keeper(self) -> None:
        while not self._ended.wait(HEARTBEAT):
            keep_keeper()

    def say(self, message: Json) -> None:
        """Send one line; a broken channel is ignored here, because run() detects its end."""
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._write_lock, contextlib.suppress(BrokenPipeError, ValueError):
            self._sink.write(line)
            self._sink.flush()

    def _serve(self, request: Json) -> None:
        answer: Json = {"id": request["id"], "ok": True}
        try:
            answer["result"] = self.run_operation(request["op"], request.get("args", {}))
        except Exception as error:
            answer.update(ok=False, error=describe_error(error))
        self.say(answer)

    def run_operation(self, op: str, args: Json) -> Any:
        """Run an operation and return its result; raise AgentError "unknown-op" if there is none."""
        operation = getattr(self, "op_" + op, None)
        if operation is None:
            raise AgentError("unknown-op", f"this probe has no operation {op!r}")
        return operation(**args)

    # --- the host

    def op_hello(self) -> Json:
        """Return the host's name, versions, ids and clocks, and the faults that earlier probes left."""
        return {
            "host": platform.node(),
            "kernel": platform.release(),
            "build": platform.version(),
            "command_line": read_command_line(),
            "architecture": platform.machine(),
            "python": platform.python_version(),
            "pid": os.getpid(),
            "uid": os.getuid(),
            "systemd": Path("/run/systemd/system").is_dir(),
            "faults": self._left_faults(),
            "clock": read_clock(),
        }

    def _left_faults(self) -> list[Json]:
        """Return the faults that earlier probes left, and lift those that have expired."""
        return recover_faults()

    def op_capabilities(self) -> Json:
        """Return the result of read_capabilities, which runs once per probe."""
        if self._capabilities is None:
            self._capabilities = read_capabilities()
        return self._capabilities

    def op_patience(self, factor: float) -> None:
        """Multiply every wait of this probe by `factor`."""
        set_patience(factor)

    def op_clock(self) -> Json:
        """See read_clock."""
        return read_clock()

    def op_ping(self, payload: Any = None) -> Any:
        """Return the payload."""
        return payload

    def op_counters(self) -> Json:
        """See read_counters."""
        return read_counters()

    def op_nics(self) -> Json:
        """See read_nics."""
        return read_nics()

    def op_endpoints(self) -> list[Json]:
        """Return the MPTCP endpoints."""
        with PathManager() as manager:
            return manager.endpoints()

    def op_change_endpoints(self, command: str, endpoint: Json | None = None) -> None:
        """See change_endpoints."""
        change_endpoints(command, endpoint)

    def op_limits(self) -> Json:
        """Return the MPTCP limits."""
        with PathManager() as manager:
            return manager.limits()

    def op_steer(self, command: str, token: int, **about: Any) -> None:
        """See PathManager.steer."""
        with PathManager() as manager:
            manager.steer(command, token, **about)

    def op_examine(self, ports: list[int]) -> Json:
        """See examine."""
        return examine(ports)

    def op_look_up(self, pairs: list[list[str]]) -> list[Json]:
        """See look_up."""
        return look_up(pairs)

    def op_sysctls(self) -> Json:
        """See read_sysctls."""
        return read_sysctls()

    def op_read(self, what: str) -> Any:
        """Return one of IP_READINGS, as the tool prints it."""
        if what not in IP_READINGS:
            raise ValueError(f"{what!r}: use one of {', '.join(IP_READINGS)}")
        return read_tool(what)

    def op_network_state(self) -> Json:
        """See network_state."""
        return network_state(self._readings)

    def op_kernel_log(self) -> list[str]:
        """Return the kernel's log lines since the last call; the first call begins to follow the log."""
        if self._kernel_log is None:
            self._kernel_log = KernelLog()
        return self._kernel_log.take()

    def op_run(self, argv: list[str], timeout: float = 10.0, stdin: str = "") -> Json:
        """Run a command with a timeout in seconds; see Commands.run."""
        return self.commands.run(argv, timeout, stdin)

    # --- sockets

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

    # --- transfers

    def op_send(self, stream: str, **options: Any) -> str:
        """Begin to send; see start_send."""
        return self._add_transfer(start_send(self.open.get(stream), **options))

    def op_receive(self, stream: str, nbytes: int | None = None) -> str:
        """Begin to receive; see start_receive."""
        return self._add_transfer(start_receive(self.open.get(stream), nbytes))

    def op_echo(self, stream: str) -> str:
        """Begin to echo; see start_echo."""
        return self._add_transfer(start_echo(self.open.get(stream)))

    def _add_transfer(self, transfer: Transfer) -> str:
        name = self.transfers.add("transfer", transfer)
        self._recent.append(name)
        if len(self._recent) > TRANSFERS_KEPT and self.transfers.get(self._recent[0]).done.is_set():
            self.transfers.pop(self._recent.popleft())
        return name

    def op_progress(self, transfer: str) -> Json:
        """Return the progress of a transfer."""
        return dict(self.transfers.get(transfer).document())

    def op_finish(self, transfer: str) -> None:
        """End a send after its current chunk."""
        self.transfers.get(transfer).finishing = True

    def op_wait(self, transfer: str, timeout: float) -> Json:
        """Wait for the end of a transfer; `done` in the result is false if the time was over first."""
        running = self.transfers.get(transfer)
        return dict(running.result() if running.done.wait(patient(timeout)) else running.document())

    # --- events and captures

    def op_watch(self) -> str:
        """Report netlink events from now on, and return the id of the watch."""
        name = ""
        ready = threading.Event()

        def report(event: Json) -> None:
            ready.wait()
            self.say({**event, "watch": name})

        name = self.open.add("watch", EventWatch(report))
        ready.set()
        return name

    def op_socket_program(self) -> str:
        """Give this process MPTCP where it asks for TCP, by an eBPF program, until op_close."""
        return self.open.add("program", SocketProgram())

    def op_capture(self, devices: list[str], snaplen: int = 160, ports: Sequence[int] = ()) -> str:
        """Start a capture on these NICs and return its id; `snaplen` is in bytes per packet.

        With `ports` it has only the TCP packets of these ports.
        """
        return self.open.add("capture", Capture(devices, snaplen, ports))

    def op_capture_stop(self, capture: str) -> Json:
        """Stop a capture and return its counts; op_capture_fetch then returns the file in pieces."""
        return dict(self.open.get(capture).stop())

    def op_capture_fetch(self, capture: str, offset: int, length: int) -> str:
        """Return a piece of the pcapng file, compressed with zlib, in base64."""
        piece = self.open.get(capture).data[offset : offset + length]
        return base64.b64encode(zlib.compress(piece, 3)).decode()

    def op_relay(self, address: str, port: int) -> str:
        """Report raw packets to this address and port from now on, and return the id of the relay."""
        name = ""
        ready = threading.Event()

        def report(event: Json) -> None:
            ready.wait()
            self.say({**event, "relay": name})

        name = self.open.add("relay", Relay(address, port, report))
        ready.set()
        return name

    def op_relay_send(self, relay: str, packet: str) -> None:
        """Send a raw IPv4 packet (base64)."""
        self.open.get(relay).send(base64.b64decode(packet))

    # --- the origin service

    def op_origin(self, name: str, request: Json) -> Any:
        """Query an origin service on this host; see Origin.ask_*."""
        return ask_origin(name, request)

    # --- faults and the lease

    def op_fault(self, kind: str, ttl: float, params: Json, run: str = "") -> str:
        """Apply a fault for at most `ttl` seconds and return its id; PLANS has the kinds and parameters."""
        return self.open.add("fault", AppliedFault(apply_fault(kind, ttl, params, run)))

    def op_lift(self, fault: str) -> bool:
        """Lift a fault of this probe; return false if it was lifted before, because its time was over."""
        lifted = bool(self.open.get(fault).close())
        self.open.pop(fault)
        return lifted

    def op_lift_record(self, fault: str) -> bool:
        """Lift a fault by the id of its record, whichever probe applied it; return false if there is none."""
        return lift_fault(fault)

    def op_faults(self) -> list[Json]:
        """Return all fault records, with the error of the last undo, and whether the probe has ended."""
        return [{**each, "orphan": not Path(f"/proc/{each['owner']}").exists()} for each in read_faults()]

    def op_lease_take(self, owner: str, run: str, ttl: float) -> Json:
        """See take_lease."""
        return take_lease(owner, run, ttl)

    def op_lease_refresh(self, run: str, ttl: float) -> None:
        """See refresh_lease."""
        refresh_lease(run, ttl)

    def op_lease_release(self, run: str) -> bool:
        """See release_lease."""
        return release_lease(run)


def probe_main(management: str) -> int:
    """Serve the controller on standard input and output until its standard input ends.

    `management` is SSH_CONNECTION: the controller's address and port, then this host's address and port
    ("UNKNOWN" on a Unix socket).
    """
    MANAGEMENT.extend(plain_address(word) for word in management.split()[2:3])
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # the output of a library must not get between the JSON lines
    Probe(source, sink).run()
    # Daemon threads may still use sockets that are being closed; the kernel closes them at exit.
    os._exit(0)
