"""The controller's end of a probe: start it over SSH, call it, detect that its host has vanished."""

from __future__ import annotations

import contextlib
import errno
import functools
import io
import itertools
import json
import shlex
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from types import NoneType
from typing import TYPE_CHECKING, Any, Protocol, Self, TypeVar

from mptcp_lab.errors import Inconclusive, LabBroken, LabError
from mptcp_lab.paths import AGENT
from mptcp_lab.patience import factor, patient
from mptcp_lab.probe.facts import Failure, Hello
from mptcp_lab.probe.shapes import LINE_MAX_BYTES, Misshapen, decode_line, read_as

if TYPE_CHECKING:
    from mptcp_lab.probe.ssh import SshTarget

SILENCE_LIMIT = 4.0  # seconds; the probe sends a line about every second
# Reads the agent from standard input into memory, so that nothing is written to the host's disk.
BOOTSTRAP = """
import os, runpy, sys
try:
    memory = os.memfd_create("mptcp-lab", 9)  # MFD_CLOEXEC | MFD_NOEXEC_SEAL: vm.memfd_noexec may ask for it
except OSError:
    memory = os.memfd_create("mptcp-lab")  # Linux before 6.3
os.write(memory, sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))
sys.argv = ["agent", sys.argv[1], "--management=" + sys.argv[2], "--patience=" + sys.argv[3]]
runpy.run_path(f"/proc/self/fd/{memory}", run_name="__main__")
"""
Event = Mapping[str, Any]
#: Operations that a run does around its checks (by the start of their names): they change nothing on a host.
HOUSEKEEPING = ("lease_", "kernel_log")
MAKE_ROOM = "make room on the host: df -h /run /var /tmp"
#: The next step after an operation failed on a host, by errno.
NEXT_STEPS = {errno.ENOSPC: MAKE_ROOM, errno.EDQUOT: MAKE_ROOM}
T = TypeVar("T")


def bootstrap(command: str) -> str:
    """Return the shell command that runs a command of the agent; the factor of patience has to follow."""
    return f'python3 -I -u -c {shlex.quote(BOOTSTRAP)} {command} "$SSH_CONNECTION"'


@functools.cache
def agent_archive() -> bytes:
    """Return the agent as a zip archive; the same sources always give the same bytes."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for source in sorted([*AGENT.rglob("*.py"), *AGENT.rglob("*.json")]):
            # An explicit ZipInfo always has the same date.
            archive.writestr(
                zipfile.ZipInfo(str(source.relative_to(AGENT))), source.read_bytes(), zipfile.ZIP_DEFLATED
            )
    return buffer.getvalue()


class Transport(Protocol):
    """The connection below a channel."""

    def close(self) -> None:
        """Close the connection."""


class Channel(Protocol):
    """The streams of a program on a host: a channel of paramiko, or a process of OpenSSH."""

    def sendall(self, s: bytes, /) -> object:
        """Write to the program's standard input; raise OSError or EOFError if that is closed."""

    def recv(self, nbytes: int, /) -> bytes:
        """Return output of the program, at most ``nbytes``; empty at its end."""

    def recv_stderr_ready(self) -> bool:
        """Return whether error output has arrived."""

    def recv_stderr(self, nbytes: int, /) -> bytes:
        """Return error output."""

    def shutdown_write(self) -> None:
        """Close the program's standard input."""

    def close(self) -> None:
        """Close all streams."""


class ProbeError(LabError):
    """An operation failed on a host; ``kind`` classifies the error, ``more`` holds further fields of it."""

    def __init__(self, host: str, op: str, error: Mapping[str, Any]) -> None:
        self.errno: int | None = error.get("errno")
        super().__init__(f"{op}: {error.get('message', 'failed')}", host, NEXT_STEPS.get(self.errno or 0, ""))
        self.document = error
        self.op = op
        self.kind = str(error.get("kind", ""))
        self.more = {key: value for key, value in error.items() if key not in ("kind", "message", "errno")}


class HostVanished(LabBroken):
    """A host stopped answering: it was killed, is frozen, or cannot be reached."""

    def __init__(self, host: str, what: str) -> None:
        super().__init__(
            f"the host vanished: {what}", host, "bring the lab up again, then run the suite again"
        )


class Nonsense(Inconclusive):
    """A host's answer does not have the form that the operation returns, so that it proves nothing."""

    def __init__(self, host: str, op: str, detail: str) -> None:
        super().__init__(
            host,
            f"{host} answers nonsense to {op}: {detail}",
            "look at what answers there as python3 and as the origin service",
        )

    def __str__(self) -> str:
        return f"{self.what}; next: {self.next_step}"


class SudoRefused(LabBroken):
    """The login user cannot become root without a password."""

    def __init__(self, target: SshTarget, what: str) -> None:
        super().__init__(
            f"{target.user} cannot become root ({what.partition('sudo: ')[2].partition(')')[0]})",
            target.name,
            f"the probe uses `sudo -n` to become root: give {target.user} a NOPASSWD line in sudoers (visudo)"
            " on the host, or log in as root (ansible_user)",
        )


class Deadline(ProbeError):
    """A call did not end within its timeout although the host is alive."""

    def __init__(self, host: str, op: str, within: float) -> None:
        super().__init__(host, op, {"kind": "deadline", "message": f"no answer within {within:g} s"})


class Pending:
    """A call in flight."""

    def __init__(self, client: ProbeClient, op: str) -> None:
        self._client = client
        self._op = op
        self._arrived = threading.Event()
        self._answer: dict[str, Any] = {}

    def resolve(self, answer: dict[str, Any]) -> None:
        """Store the answer and wake the caller; the reader's thread calls this."""
        self._answer = answer
        self._arrived.set()

    def result(self, within: float = 10.0) -> Any:
        """Return the call's result, waiting at most ``within`` seconds.

        Raises:
            ProbeError: the operation failed on the host.
            Deadline: there was no answer in time although the host is alive.
            HostVanished: the host stopped answering; raised as soon as this is detected.
        """
        within = patient(within)
        end = time.monotonic() + within
        while not self._arrived.wait(max(0.0, min(end - time.monotonic(), 0.5))):
            self._client.check_alive(self._op)
            if time.monotonic() >= end:
                raise Deadline(self._client.host, self._op, within)
        if "vanished" in self._answer:
            raise HostVanished(self._client.host, f"{self._answer['vanished']}, during {self._op}")
        if "nonsense" in self._answer:
            raise Nonsense(self._client.host, self._op, self._answer["nonsense"])
        if self._answer.get("ok") is True and "result" in self._answer:
            return self._answer["result"]
        raise self._failure()

    def _failure(self) -> LabError:
        try:
            if self._answer.get("ok") is not False:
                raise Misshapen("neither a result nor an error")
            error = read_as(dict, self._answer.get("error"))
            read_as(Failure, {key: error.get(key) for key in ("kind", "message", "errno")})
        except Misshapen as problem:
            return Nonsense(self._client.host, self._op, str(problem))
        return ProbeError(self._client.host, self._op, error)

    def read(self, kind: type[T], within: float = 10.0) -> T:
        """Return the call's result as ``kind``; raise `Nonsense` for another form, else as `result` does."""
        value = self.result(within)
        try:
            return read_as(kind, value)
        except Misshapen as problem:
            raise Nonsense(self._client.host, self._op, str(problem)) from None


class ProbeClient:
    """One probe process on one host, and the channel to it; several threads may use it."""

    def __init__(self, host: str, transport: Transport, channel: Channel) -> None:
        self.host = host
        self.hello: Mapping[str, Any] = {}
        #: Called with the host's name and the pcapng bytes of every capture that was stopped.
        self.on_capture: Callable[[str, bytes], None] = lambda _host, _pcapng: None
        #: Number of operations started so far, without those of `HOUSEKEEPING`.
        self.begun = 0
        #: Called with the host's name before each of these operations; an exception prevents the operation.
        self.on_use: Callable[[str], None] = lambda _host: None
        #: The run whose lease the host checks before a fault; set by `mptcp_lab.machines.lease`.
        self.run_id = ""
        self._transport = transport
        self._channel = channel
        self._ids = itertools.count(1)
        self._lock = threading.Lock()
        self._pending: dict[int, Pending] = {}
        self._listeners: list[Callable[[Event], None]] = []
        self._gone = ""
        self._heard = time.monotonic()
        self._reader = threading.Thread(target=self._read, name=f"probe-{host}", daemon=True)
        self._reader.start()

    @classmethod
    def open(cls, target: SshTarget, within: float = 10.0) -> Self:
        """Connect over SSH, start the probe, and wait at most ``within`` seconds for its greeting.

        Raises `SshFailed`, `SudoRefused`, `ProbeError` or `HostVanished`.
        """
        import paramiko  # clients over other channels need no paramiko

        from mptcp_lab.probe.ssh import connect

        transport = connect(target, within)
        try:
            channel = transport.open_session(timeout=patient(within))
            python = f"{bootstrap('probe')} {factor()}"
            channel.exec_command(f"sudo -n {python}" if target.become else python)
        except paramiko.SSHException as error:
            transport.close()
            raise HostVanished(target.name, f"could not start the probe: {error}") from None
        client = cls(target.name, transport, channel)
        try:
            client.greet(within)
        except HostVanished:
            if "sudo: " in client.end_reason:
                raise SudoRefused(target, client.end_reason) from None
            raise
        return client

    @property
    def end_reason(self) -> str:
        """Return why the probe has ended, with the last line of its error output; "" while it runs."""
        return self._gone

    def greet(self, within: float = 10.0) -> None:
        """Send the agent over the channel and wait for its greeting; close the client if there is none."""
        payload = agent_archive()
        try:
            with contextlib.suppress(
                OSError
            ):  # the probe has ended already: reading the greeting gives the reason
                self._channel.sendall(f"{len(payload)}\n".encode() + payload)
            hello = self.start("hello")
            hello.read(Hello, within)
            self.hello = hello.result(within)
        except Deadline:
            self.close()
            raise HostVanished(self.host, f"the probe did not greet within {patient(within):g} s") from None
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def kernel(self) -> str:
        """Return the release of the host's kernel, from the probe's greeting."""
        return str(self.hello.get("kernel", ""))

    def call(self, op: str, within: float = 10.0, **args: Any) -> Any:
        """Run an operation and return its result; raise as `Pending.result` does."""
        return self.start(op, **args).result(within)

    def ask(self, kind: type[T], op: str, within: float = 10.0, **args: Any) -> T:
        """Run an operation and return its result as ``kind``; raise as `Pending.read` does."""
        return self.start(op, **args).read(kind, within)

    def order(self, op: str, within: float = 10.0, **args: Any) -> None:
        """Run an operation that returns nothing; raise as `Pending.read` does."""
        self.start(op, **args).read(NoneType, within)

    def start(self, op: str, **args: Any) -> Pending:
        """Start an operation, and return the pending call."""
        is_of_the_check = not op.startswith(HOUSEKEEPING)
        if is_of_the_check:
            self.on_use(self.host)
        pending = Pending(self, op)
        number = next(self._ids)
        self.begun += is_of_the_check
        line = json.dumps({"id": number, "op": op, "args": args}, separators=(",", ":")).encode() + b"\n"
        with self._lock:
            if self._gone:
                raise HostVanished(self.host, f"{self._gone}, before {op}")
            self._pending[number] = pending
            try:
                self._channel.sendall(line)
            except (OSError, EOFError) as error:  # paramiko raises EOFError for a broken connection
                raise HostVanished(self.host, f"{error or 'channel closed'}, during {op}") from None
        return pending

    def check_alive(self, op: str) -> None:
        """Raise `HostVanished` if the probe has been silent for too long, except while it starts."""
        silence = time.monotonic() - self._heard
        if self.hello and silence > patient(SILENCE_LIMIT):
            raise HostVanished(self.host, f"silent for {silence:.1f} s, during {op}")

    def listen_events(self, listener: Callable[[Event], None]) -> Callable[[], None]:
        """Pass events to ``listener``, in the reader's thread; return a function that ends this."""
        self._listeners.append(listener)
        return lambda: self._listeners.remove(listener)

    def close(self) -> None:
        """End the probe, which closes everything it opened on the host and lifts its faults."""
        with contextlib.suppress(OSError, EOFError):  # closed already
            self._channel.shutdown_write()
        if time.monotonic() - self._heard < patient(SILENCE_LIMIT):
            self._reader.join(patient(3.0))  # the probe exits, which closes the channel
        self._transport.close()
        self._reader.join(patient(3.0))

    def _read(self) -> None:
        reason, nonsense = "the channel closed", ""
        try:
            for line in self._lines():
                self._heard = time.monotonic()
                self._handle(decode_line(line))
        except OSError as error:
            reason = f"the channel broke: {error}"
        except Misshapen as problem:
            nonsense = str(problem)
            reason = f"it answered nonsense: {nonsense}"
            self._channel.close()
        said = self._last_words()
        with self._lock:
            self._gone = reason + (f" ({said})" if said else "")
            pending, self._pending = list(self._pending.values()), {}
        for call in pending:
            call.resolve({"nonsense": nonsense} if nonsense else {"vanished": self._gone})

    def _lines(self) -> Iterator[bytes]:
        """Yield the lines that the probe writes; raise `Misshapen` for a line longer than any answer."""
        line = bytearray()
        while data := self._channel.recv(1 << 16):
            first, *others = data.split(b"\n")
            line += first
            for other in others:
                yield bytes(line)
                line = bytearray(other)
            if len(line) > LINE_MAX_BYTES:
                raise Misshapen(f"a line of more than {LINE_MAX_BYTES >> 20} MiB")

    def _handle(self, message: dict[str, Any]) -> None:
        if "id" not in message:
            read_as(str, message.get("event"))
            for listener in list(self._listeners):
                listener(message)
            return
        number = read_as(int, message["id"])
        with self._lock:
            pending = self._pending.pop(number, None)
        if pending is not None:
            pending.resolve(message)

    def _last_words(self) -> str:
        """Return the last line of error output from the probe, from sudo, or from a shell without python3."""
        if not self._channel.recv_stderr_ready():
            return ""
        text = self._channel.recv_stderr(65536).decode(errors="replace").strip()
        return text.splitlines()[-1] if text else ""
