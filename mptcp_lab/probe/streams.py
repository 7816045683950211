"""Listeners, connections and transfers on a host, as objects that stand for the probe's."""

from __future__ import annotations

import base64
import errno
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from mptcp_lab.errors import Breach
from mptcp_lab.probe.absent import locate
from mptcp_lab.probe.client import Nonsense, Pending, ProbeClient, ProbeError
from mptcp_lab.probe.facts import IS_MPTCP, Address, Progress, SocketFacts, TransferResult, read_lacking
from mptcp_lab.probe.shapes import Misshapen, read_as

#: What connect() and socket() answer without a packet.
NO_SOCKET = frozenset(
    {
        errno.ENOPROTOOPT,
        errno.EPROTONOSUPPORT,
        errno.ESOCKTNOSUPPORT,
        errno.EAFNOSUPPORT,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ENOBUFS,
    }
)
MARGIN = 5.0  # what a call may take beyond the time that the host waits


class ConnectFailed(Breach):
    """connect() failed with ``errno`` after ``seconds``; ETIMEDOUT also when the caller's time was over."""

    def __init__(self, host: str, message: str, number: int, seconds: float) -> None:
        super().__init__(message, host)
        self.errno = number
        self.seconds = seconds

    @property
    def is_local(self) -> bool:
        """Whether the client's own kernel gave no socket: nothing was asked of the network."""
        return self.errno in NO_SOCKET


class TransferFailed(Breach):
    """A transfer ended with an error, or not in its time; ``result`` is what there was of it, if it ended."""

    def __init__(self, host: str, message: str, result: TransferResult | None) -> None:
        super().__init__(message, host)
        self.result = result


class NothingAccepted(ProbeError, Breach):
    """No connection came to a listener in its time."""


class Transfer:
    """Data on its way."""

    def __init__(self, probe: ProbeClient, name: str) -> None:
        self._probe = probe
        self._name = name

    def progress(self) -> Progress:
        """How far it is."""
        return self._probe.ask(Progress, "progress", transfer=self._name)

    def finish(self, within: float = 10.0) -> TransferResult:
        """Let a send end after the chunk it is at, and return the result. Raises as wait does."""
        self._probe.order("finish", transfer=self._name)
        return self.wait(within)

    def wait(self, within: float, check: bool = True) -> TransferResult:
        """The result. Raises TransferFailed if it has not ended, or (with ``check``) ended in an error."""
        waiting = self._probe.start("wait", transfer=self._name, timeout=within)
        if not waiting.read(dict[str, Any], within + MARGIN).get("done"):
            so_far = waiting.read(Progress)
            done = f"{so_far.nbytes} bytes passed, last at {so_far.last}, now {so_far.at}"
            raise TransferFailed(
                self._probe.host, f"the transfer did not end within {within:g} s: {done}", None
            )
        result = waiting.read(TransferResult)
        if check and result.end == "error":
            raise TransferFailed(self._probe.host, f"{result.message} after {result.nbytes} bytes", result)
        return result


@dataclass(frozen=True)
class Opened:
    """A socket that the probe opened: its id (``stream`` or ``listener``) and its ends."""

    local: Address | None
    stream: str = ""
    listener: str = ""
    peer: Address | None = None
    seconds: float = 0.0
    at: float = 0.0


class Stream:
    """A connection on the probe's host, made or accepted. ``seconds`` is how long connect() took."""

    def __init__(self, probe: ProbeClient, opened: Opened) -> None:
        self._probe = probe
        self.name = opened.stream
        self.local = opened.local
        self.peer = opened.peer
        self.seconds = opened.seconds
        self.at = opened.at
        self._closed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(
        self,
        nbytes: int,
        seed: int | str = 0,
        chunk: int = 65536,
        interval: float = 0.0,
        pattern: str = "random",
        header: bytes = b"",
    ) -> Transfer:
        """Begin to send ``header``, then ``nbytes`` of pattern in chunks, one per ``interval`` seconds.

        The header is not counted in the result. ``pattern``: "random" (by ``seed``) or "zero".
        """
        name = self._probe.ask(
            str,
            "send",
            stream=self.name,
            nbytes=nbytes,
            seed=seed,
            chunk=chunk,
            interval=interval,
            pattern=pattern,
            header=base64.b64encode(header).decode(),
        )
        return Transfer(self._probe, name)

    def receive(self, nbytes: int | None = None) -> Transfer:
        """Begin to receive ``nbytes``, or until the end of the stream."""
        return Transfer(self._probe, self._probe.ask(str, "receive", stream=self.name, nbytes=nbytes))

    def echo(self) -> Transfer:
        """Begin to send back what arrives."""
        return Transfer(self._probe, self._probe.ask(str, "echo", stream=self.name))

    def facts(self) -> SocketFacts:
        """What the kernel says about the connection."""
        facts = self._probe.ask(SocketFacts, "facts", stream=self.name)
        return facts.seen_by(self._probe.host, self._probe.kernel)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Set a socket option. Raises ProbeError with the errno."""
        raw = base64.b64encode(value).decode() if isinstance(value, bytes) else value
        self._probe.order("setsockopt", stream=self.name, level=level, option=option, value=raw)

    def shutdown(self) -> None:
        """End the sending direction."""
        self._probe.order("shutdown", stream=self.name)

    def close(self, reset: bool = False) -> None:
        """Close, with RST if ``reset``; ends its transfers. Closing again does nothing."""
        if not self._closed:
            self._closed = True
            self._probe.order("close", item=self.name, reset=reset)


class Listener:
    """A listening socket on the probe's host."""

    def __init__(self, probe: ProbeClient, opened: Opened) -> None:
        self._probe = probe
        self._name = opened.listener
        self.local = opened.local

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def port(self) -> int:
        """The port that it listens on, which the kernel chooses where port 0 is asked for."""
        if self.local is None:
            raise Nonsense(self._probe.host, "listen", "a listener without a local address")
        return self.local.port

    @property
    def accepted(self) -> int:
        """How many connections were accepted so far, taken or not."""
        return self._probe.ask(int, "accepted", listener=self._name)

    def accept(self, within: float = 5.0) -> Stream:
        """Return the next accepted connection. Raises NothingAccepted."""
        accepting = self._probe.start("accept", listener=self._name, timeout=within)
        try:
            return Stream(self._probe, accepting.read(Opened, within + MARGIN))
        except ProbeError as error:
            if error.kind != "timeout":
                raise
            raise NothingAccepted(self._probe.host, error.op, error.document) from None

    def release(self) -> None:
        """Begin to accept, for a listener opened with ``hold``."""
        self._probe.order("release", listener=self._name)

    def close(self) -> None:
        """Stop listening; connections that were accepted and not taken are reset."""
        self._probe.order("close", item=self._name)


@dataclass(frozen=True)
class Batch:
    """What became of many short connections: ``failed`` counts by errno (CUT: ended before its answer),
    ``mptcp`` those that were MPTCP at their end, ``digests`` the sha256 of what came back."""

    completed: int
    failed: Mapping[str, int]
    mptcp: int
    most_open: int
    digests: Mapping[str, int]
    seconds: float

    @classmethod
    def from_answer(cls, document: Any) -> Self:
        """Read the probe's document; ``mptcp`` is `Absent` where the kernel cannot tell."""
        return read_lacking(cls, document, {"mptcp": IS_MPTCP})


class RunningBatch:
    """Many short connections under way."""

    def __init__(self, pending: Pending, within: float, host: str, kernel: str) -> None:
        self._pending, self._within, self._where = pending, within, (host, kernel)

    def wait(self) -> Batch:
        """What became of them. Raises ProbeError or HostVanished."""
        batch = self._pending.read(Batch, self._within)
        return replace(batch, mptcp=locate(batch.mptcp, *self._where))


def connect(probe: ProbeClient, within: float, **args: Any) -> Stream:
    """Connect from the probe's host. Raises ConnectFailed."""
    try:
        return Stream(probe, probe.start("connect", timeout=within, **args).read(Opened, within + MARGIN))
    except ProbeError as error:
        if error.kind != "connect":
            raise
        try:
            seconds = read_as(float, error.more.get("seconds"))
        except Misshapen as problem:
            raise Nonsense(probe.host, "connect", str(problem)) from None
        raise ConnectFailed(probe.host, error.what, error.errno or 0, seconds) from None
