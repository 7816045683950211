"""Listeners, connections and transfers on a host, as handles for the probe's objects."""

from __future__ import annotations

import base64
import errno
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Self

from mptcp_lab.errors import Breach, Unsupported
from mptcp_lab.probe.absent import locate
from mptcp_lab.probe.client import Nonsense, Pending, ProbeClient, ProbeError
from mptcp_lab.probe.facts import (
    IS_MPTCP,
    Address,
    Progress,
    SocketFacts,
    Subflow,
    TransferResult,
    read_lacking,
)
from mptcp_lab.probe.shapes import Misshapen, read_as

#: Errors of connect() and socket() that are returned before any packet is sent.
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
MARGIN = 5.0  # seconds that a call may take beyond the host's timeout


class ConnectFailed(Breach):
    """connect() failed with ``errno`` after ``seconds``; the caller's timeout gives ETIMEDOUT too."""

    def __init__(self, host: str, message: str, number: int, seconds: float) -> None:
        super().__init__(message, host)
        self.errno = number
        self.seconds = seconds

    @property
    def is_local(self) -> bool:
        """Return whether the client's kernel refused the socket, so that no packet was sent."""
        return self.errno in NO_SOCKET


class TransferFailed(Breach):
    """A transfer ended with an error, then ``result`` is set, or did not end in time, then it is None."""

    def __init__(self, host: str, message: str, result: TransferResult | None) -> None:
        super().__init__(message, host)
        self.result = result


class NothingAccepted(ProbeError, Breach):
    """A listener accepted no connection within the timeout."""


class Transfer:
    """A transfer in progress."""

    def __init__(self, probe: ProbeClient, name: str) -> None:
        self._probe = probe
        self._name = name

    def progress(self) -> Progress:
        """Return the progress of the transfer."""
        return self._probe.ask(Progress, "progress", transfer=self._name)

    def finish(self, within: float = 10.0) -> TransferResult:
        """End a send after its current chunk, and return the result; raise as `wait` does."""
        self._probe.order("finish", transfer=self._name)
        return self.wait(within)

    def wait(self, within: float, check: bool = True) -> TransferResult:
        """Wait at most ``within`` seconds for the end of the transfer, and return the result.

        Raises:
            TransferFailed: it has not ended, or, with ``check``, ended with an error.
        """
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
    """A socket that the probe opened: its id (``stream`` or ``listener``) and both of its addresses."""

    local: Address | None
    stream: str = ""
    listener: str = ""
    peer: Address | None = None
    seconds: float = 0.0
    at: float = 0.0


@dataclass(frozen=True)
class TriedOption:
    """The answers of a kernel to a socket option: errno of setting and of reading it (None where it agreed).

    ``before`` and ``after`` are the values that it reported, in hexadecimal, None where it reported none.
    """

    set_errno: int | None
    get_errno: int | None
    before: str | None
    after: str | None


def code_options(options: Sequence[tuple[int, int, bytes]]) -> list[tuple[int, int, str]]:
    """Return socket options (level, option, value) as the agent reads them."""
    return [(level, option, base64.b64encode(value).decode()) for level, option, value in options]


@dataclass(frozen=True)
class Readable:
    """How many octets wait to be read, by FIONREAD and by TCP_INQ; None where the kernel lacks one.

    TCP_INQ is None too where nothing waits.
    """

    fionread: int | None
    tcp_inq: int | None


class Stream:
    """A connection on the probe's host, opened or accepted; ``seconds`` is the duration of connect()."""

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
        acknowledged: bool = False,
    ) -> Transfer:
        """Start to send ``header``, then ``nbytes`` of pattern in chunks, one per ``interval`` seconds.

        If ``acknowledged``, a chunk is not sent before all earlier ones are acknowledged. The result does not
        count the header. ``pattern`` is "random" (from ``seed``) or "zero".
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
            acknowledged=acknowledged,
        )
        return Transfer(self._probe, name)

    def receive(self, nbytes: int | None = None) -> Transfer:
        """Start to receive ``nbytes``, or, for None, until the end of the stream."""
        return Transfer(self._probe, self._probe.ask(str, "receive", stream=self.name, nbytes=nbytes))

    def echo(self) -> Transfer:
        """Start to send received data back."""
        return Transfer(self._probe, self._probe.ask(str, "echo", stream=self.name))

    def facts(self) -> SocketFacts:
        """Return the kernel's report about the connection."""
        facts = self._probe.ask(SocketFacts, "facts", stream=self.name)
        return facts.seen_by(self._probe.host, self._probe.kernel)

    def readable(self) -> Readable:
        """Return how many octets wait to be read; nothing is read."""
        return self._probe.ask(Readable, "readable", stream=self.name)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Set a socket option; raise `ProbeError`, with the errno, if the kernel refuses it."""
        raw = base64.b64encode(value).decode() if isinstance(value, bytes) else value
        self._probe.order("setsockopt", stream=self.name, level=level, option=option, value=raw)

    def try_options(self, options: Sequence[tuple[int, int, bytes]]) -> tuple[TriedOption, ...]:
        """Set each option (level, option, value) and read it back; a refusal is a part of the result."""
        kind = tuple[TriedOption, ...]
        return self._probe.ask(kind, "try_options", stream=self.name, options=code_options(options))

    def kill_subflow(self, subflow: Subflow) -> None:
        """Abort one subflow from outside the application, as `ss --kill` does; the peer gets a RST.

        Raises:
            Unsupported: the kernel lacks INET_DIAG_DESTROY.
            ProbeError: the connection has no such subflow (any more).
        """
        local, remote = [subflow.local, subflow.lport], [subflow.remote, subflow.rport]
        try:
            self._probe.order("kill_subflow", stream=self.name, local=local, remote=remote)
        except ProbeError as error:
            if error.kind != "unsupported":
                raise
            capability = str(error.more.get("capability", "SOCK_DESTROY"))
            raise Unsupported(capability, error.what, self._probe.host) from None

    def shutdown(self) -> None:
        """Close the sending direction."""
        self._probe.order("shutdown", stream=self.name)

    def close(self, reset: bool = False) -> None:
        """Close the connection, with RST if ``reset``, and end its transfers; a second call is a no-op."""
        if not self._closed:
            self._closed = True
            self._probe.order("close", item=self.name, reset=reset)


class Listener:
    """A listening socket on the probe's host."""

    def __init__(self, probe: ProbeClient, opened: Opened) -> None:
        self._probe = probe
        self._name = opened.listener
        self.local = opened.local
        self._closed = False

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
    def accepted_count(self) -> int:
        """Return how many connections the host has accepted so far, returned by `accept` or not."""
        return self._probe.ask(int, "accepted", listener=self._name)

    def accept(self, within: float = 5.0) -> Stream:
        """Return the next accepted connection; raise `NothingAccepted` after ``within`` seconds."""
        accepting = self._probe.start("accept", listener=self._name, timeout=within)
        try:
            return Stream(self._probe, accepting.read(Opened, within + MARGIN))
        except ProbeError as error:
            if error.kind != "timeout":
                raise
            raise NothingAccepted(self._probe.host, error.op, error.document) from None

    def release(self) -> None:
        """Start to accept, for a listener that was opened with ``hold``."""
        self._probe.order("release", listener=self._name)

    def close(self) -> None:
        """Stop listening, and reset connections that `accept` has not returned; a second call is a no-op."""
        if not self._closed:
            self._closed = True
            self._probe.order("close", item=self._name)


@dataclass(frozen=True)
class Batch:
    """The result of many short connections.

    ``failed`` counts failures by errno (CUT: closed before its answer), ``mptcp`` the connections that were
    MPTCP at their end, ``digests`` the SHA-256 of their answers.
    """

    completed: int
    failed: Mapping[str, int]
    mptcp: int
    most_open: int
    digests: Mapping[str, int]
    seconds: float

    @classmethod
    def from_answer(cls, document: Any) -> Self:
        """Parse the probe's document; ``mptcp`` is `Absent` if the kernel does not report it."""
        return read_lacking(cls, document, {"mptcp": IS_MPTCP})


class RunningBatch:
    """Many short connections in progress."""

    def __init__(self, pending: Pending, within: float, host: str, kernel: str) -> None:
        self._pending, self._within, self._where = pending, within, (host, kernel)

    def wait(self) -> Batch:
        """Wait for all connections, and return the result; raise `ProbeError` or `HostVanished`."""
        batch = self._pending.read(Batch, self._within)
        return replace(batch, mptcp=locate(batch.mptcp, *self._where))


def connect(probe: ProbeClient, within: float, **args: Any) -> Stream:
    """Connect from the probe's host within ``within`` seconds; raise `ConnectFailed` on failure."""
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
