"""The probe: it reads calls as JSON lines, and writes answers and events.

It answers {"id": n, "op": "...", "args": {}} with {"id": n, "ok": true, "result": {}} or
{"id": n, "ok": false, "error": {"kind", "message", "errno"}}. Every call runs in a separate thread, so that
several calls can be in flight. Lines without an id are events: {"event": "heartbeat"} about every second, and
the events that the controller subscribed to.
The probe ends when its standard input ends: it closes sockets, stops captures, kills commands, lifts faults.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import threading
import time
from typing import Any

from .basics import AgentError, Json, describe_error
from .faults.plan import MANAGEMENT
from .faults.registry import keep_keeper
from .kernel.socket_facts import plain_address
from .operations.control import ControlOperations
from .operations.host import HostOperations
from .operations.packets import PacketOperations
from .operations.sockets import SocketOperations
from .operations.transfers import TransferOperations

HEARTBEAT = 1.0


class Probe(HostOperations, SocketOperations, TransferOperations, PacketOperations, ControlOperations):
    """Runs the operations (methods op_*) that arrive over a channel of JSON lines."""

    def __init__(self, source: Any, sink: Any) -> None:
        super().__init__()
        self._source = source
        self._sink = sink
        self._write_lock = threading.Lock()
        self._ended = threading.Event()

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
