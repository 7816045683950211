"""The probe: calls in, answers and events out.

It answers {"id": n, "op": "...", "args": {}} with {"id": n, "ok": true, "result": {}} or
{"id": n, "ok": false, "error": {"kind", "message", "errno"}}. Every call runs in a thread of its own, so that
several may be outstanding. Lines without an id are events: {"event": "heartbeat"} about every second, and
what was subscribed to.
The probe ends with its standard input: sockets closed, captures stopped, commands ended, faults lifted.
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
from pathlib import Path
from typing import Any

from .basics import AgentError, Json, Registry, describe_error, patient, read_clock, set_patience
from .capture import Capture
from .connections import Listener, connect
from .faults.plan import MANAGEMENT
from .faults.records import lift_fault, read_faults
from .faults.registry import AppliedFault, apply_fault, keep_keeper, recover_faults
from .kernel.capabilities import read_capabilities
from .kernel.events import EventWatch
from .kernel.host import IP_READINGS, network_state, read_counters, read_nics, read_sysctls, read_tool
from .kernel.path_manager import PathManager
from .kernel.socket_facts import plain_address, socket_facts, socket_name
from .lease import refresh_lease, release_lease, take_lease
from .many import Many
from .origin.service import ask_origin
from .relay import Relay
from .sockets import open_listener
from .streams import Stream, Transfer, start_echo, start_receive, start_send
from .tools import Commands

HEARTBEAT = 1.0
TRANSFERS_KEPT = 5000  # results that can still be asked for


class Probe:
    """Runs the operations (methods op_*) that come over a channel of JSON lines."""

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

    def run(self) -> None:
        """Serve until the channel ends, then leave nothing behind."""
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
        """Send one line; a channel that is gone is noticed by run()."""
        line = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        with self._write_lock, contextlib.suppress(BrokenPipeError, ValueError):
            self._sink.write(line)
            self._sink.flush()

    def _serve(self, request: Json) -> None:
        answer: Json = {"id": request["id"], "ok": True}
        try:
            operation = getattr(self, "op_" + request["op"], None)
            if operation is None:
                raise AgentError("unknown-op", f"this probe has no operation {request['op']!r}")
            answer["result"] = operation(**request.get("args", {}))
        except Exception as error:
            answer.update(ok=False, error=describe_error(error))
        self.say(answer)

    # --- the host

    def op_hello(self) -> Json:
        """Who this is, what it runs, and which faults an earlier probe left."""
        return {
            "host": platform.node(),
            "kernel": platform.release(),
            "python": platform.python_version(),
            "pid": os.getpid(),
            "uid": os.getuid(),
            "systemd": Path("/run/systemd/system").is_dir(),
            "faults": recover_faults(),
            "clock": read_clock(),
        }

    def op_capabilities(self) -> Json:
        """See read_capabilities; tried once per probe."""
        if self._capabilities is None:
            self._capabilities = read_capabilities()
        return self._capabilities

    def op_patience(self, factor: float) -> None:
        """Make every wait on this host so many times as long."""
        set_patience(factor)

    def op_clock(self) -> Json:
        """See read_clock."""
        return read_clock()

    def op_ping(self, payload: Any = None) -> Any:
        """What was sent."""
        return payload

    def op_counters(self) -> Json:
        """See read_counters."""
        return read_counters()

    def op_nics(self) -> Json:
        """See read_nics."""
        return read_nics()

    def op_endpoints(self) -> list[Json]:
        """MPTCP endpoints."""
        with PathManager() as manager:
            return manager.endpoints()

    def op_limits(self) -> Json:
        """MPTCP limits."""
        with PathManager() as manager:
            return manager.limits()

    def op_steer(self, command: str, token: int, **about: Any) -> None:
        """See PathManager.steer."""
        with PathManager() as manager:
            manager.steer(command, token, **about)

    def op_sysctls(self) -> Json:
        """See read_sysctls."""
        return read_sysctls()

    def op_read(self, what: str) -> Any:
        """One of IP_READINGS, as the tool prints it."""
        if what not in IP_READINGS:
            raise ValueError(f"{what!r}: use one of {', '.join(IP_READINGS)}")
        return read_tool(what)

    def op_network_state(self) -> Json:
        """See network_state."""
        return network_state()

    def op_run(self, argv: list[str], timeout: float = 10.0, stdin: str = "") -> Json:
        """Run a command."""
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
    ) -> Json:
        """Listen; connections are accepted at once unless `hold`."""
        sock = open_listener(address, port, protocol, device, backlog)
        return {
            "listener": self.open.add("listener", Listener(sock, hold)),
            "local": socket_name(sock.getsockname),
        }

    def op_release(self, listener: str) -> None:
        """Begin to accept on a listener that holds."""
        self.open.get(listener).release()

    def op_accept(self, listener: str, timeout: float = 5.0) -> Json:
        """The next accepted connection."""
        stream, peer, when = self.open.get(listener).take(timeout)
        return {
            "stream": self.open.add("stream", stream),
            "peer": [plain_address(peer[0]), peer[1]],
            "local": socket_name(stream.sock.getsockname),
            "at": when,
        }

    def op_accepted(self, listener: str) -> int:
        """How many connections a listener has accepted."""
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
        """Connect; see connect."""
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
        """Many short connections; `message` in base64. See Many."""
        batch = Many(base64.b64decode(message), expect, concurrent, hold)
        return batch.run(count, patient(timeout), (address, port), protocol, source)

    def op_facts(self, stream: str) -> Json:
        """See socket_facts."""
        return socket_facts(self.open.get(stream).sock)

    def op_setsockopt(self, stream: str, level: int, option: int, value: int | str) -> None:
        """Set an option of a stream to an int, or to bytes given in base64."""
        data = base64.b64decode(value) if isinstance(value, str) else value
        self.open.get(stream).sock.setsockopt(level, option, data)

    def op_shutdown(self, stream: str) -> None:
        """End the sending direction."""
        self.open.get(stream).sock.shutdown(socket.SHUT_WR)

    def op_close(self, item: str, reset: bool = False) -> None:
        """Close anything that was opened; `reset` is for streams."""
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
        """How far a transfer is."""
        return dict(self.transfers.get(transfer).document())

    def op_finish(self, transfer: str) -> None:
        """Let a send end after the chunk it is at."""
        self.transfers.get(transfer).finishing = True

    def op_wait(self, transfer: str, timeout: float) -> Json:
        """The result of a transfer when it has ended; `done` is false when the time was over first."""
        running = self.transfers.get(transfer)
        return dict(running.result() if running.done.wait(patient(timeout)) else running.document())

    # --- events and captures

    def op_watch(self) -> str:
        """Report netlink events from now on."""
        name = ""
        ready = threading.Event()

        def report(event: Json) -> None:
            ready.wait()
            self.say({**event, "watch": name})

        name = self.open.add("watch", EventWatch(report))
        ready.set()
        return name

    def op_capture(self, devices: list[str], snaplen: int = 160) -> str:
        """Capture on these NICs from now on."""
        return self.open.add("capture", Capture(devices, snaplen))

    def op_capture_stop(self, capture: str) -> Json:
        """End a capture; the file is then fetched in pieces."""
        return dict(self.open.get(capture).stop())

    def op_capture_fetch(self, capture: str, offset: int, length: int) -> str:
        """A piece of the pcapng: base64 of zlib."""
        piece = self.open.get(capture).data[offset : offset + length]
        return base64.b64encode(zlib.compress(piece, 3)).decode()

    def op_relay(self, address: str, port: int) -> str:
        """Relay raw packets for this address and port: those that come are reported."""
        name = ""
        ready = threading.Event()

        def report(event: Json) -> None:
            ready.wait()
            self.say({**event, "relay": name})

        name = self.open.add("relay", Relay(address, port, report))
        ready.set()
        return name

    def op_relay_send(self, relay: str, packet: str) -> None:
        """Send a raw packet (base64)."""
        self.open.get(relay).send(base64.b64decode(packet))

    # --- the origin service

    def op_origin(self, name: str, request: Json) -> Any:
        """Ask an origin service on this host; see Origin.ask_*."""
        return ask_origin(name, request)

    # --- faults and the lease

    def op_fault(self, kind: str, ttl: float, params: Json, run: str = "") -> str:
        """Apply a fault for at most `ttl` seconds; see PLANS for the kinds and their parameters."""
        return self.open.add("fault", AppliedFault(apply_fault(kind, ttl, params, run)))

    def op_lift(self, fault: str) -> bool:
        """Lift a fault; false when its time was over before."""
        lifted = bool(self.open.get(fault).close())
        self.open.pop(fault)
        return lifted

    def op_lift_record(self, fault: str) -> bool:
        """Lift a fault by its id on record, whichever probe applied it; false when there is none."""
        return lift_fault(fault)

    def op_faults(self) -> list[Json]:
        """Every fault on record: what went wrong when lifting it, and whether its probe is gone."""
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
    """Serve the controller on standard input and output until it goes.

    `management` is SSH_CONNECTION: the controller's address and port, then ours ("UNKNOWN" on a Unix socket).
    """
    MANAGEMENT.extend(plain_address(word) for word in management.split()[2:3])
    source, sink = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library might print must not end up between the lines
    Probe(source, sink).run()
    # daemon threads may still hold sockets that are being closed; the kernel closes the rest
    os._exit(0)
