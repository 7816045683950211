"""Listeners, connections and transfers on a host, as objects that stand for the probe's."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from mptcp_lab.errors import LabError
from mptcp_lab.probe.absent import Absent
from mptcp_lab.probe.client import Pending, ProbeClient, ProbeError
from mptcp_lab.probe.facts import Address, Progress, SocketFacts, TransferResult, parse_address

MARGIN = 5.0  # what a call may take beyond the time that the host waits


class ConnectFailed(LabError):
    """connect() failed with ``errno`` after ``seconds``; ETIMEDOUT also when the caller's time was over."""

    def __init__(self, host: str, message: str, errno: int, seconds: float) -> None:
        super().__init__(message, host)
        self.errno = errno
        self.seconds = seconds


class TransferFailed(LabError):
    """A transfer ended with an error, or not in its time; ``result`` is what there was of it, if it ended."""

    def __init__(self, host: str, message: str, result: TransferResult | None) -> None:
        super().__init__(message, host)
        self.result = result


class Transfer:
    """Data on its way."""

    def __init__(self, probe: ProbeClient, name: str) -> None:
        self._probe = probe
        self._name = name

    def progress(self) -> Progress:
        """How far it is."""
        return Progress(**self._probe.call("progress", transfer=self._name))

    def finish(self, within: float = 10.0) -> TransferResult:
        """Let a send end after the chunk it is at, and return the result. Raises as wait does."""
        self._probe.call("finish", transfer=self._name)
        return self.wait(within)

    def wait(self, within: float, check: bool = True) -> TransferResult:
        """The result. Raises TransferFailed if it has not ended, or (with ``check``) ended in an error."""
        document = self._probe.call("wait", within + MARGIN, transfer=self._name, timeout=within)
        if not document["done"]:
            done = f"{document['nbytes']} bytes passed, last at {document['last']}, now {document['at']}"
            raise TransferFailed(
                self._probe.host, f"the transfer did not end within {within:g} s: {done}", None
            )
        result = TransferResult.parse(document)
        if check and result.end == "error":
            raise TransferFailed(self._probe.host, f"{result.message} after {result.nbytes} bytes", result)
        return result


class Stream:
    """A connection on the probe's host, made or accepted. ``seconds`` is how long connect() took."""

    def __init__(self, probe: ProbeClient, document: dict[str, Any]) -> None:
        self._probe = probe
        self.name = str(document["stream"])
        self.local: Address | None = parse_address(document["local"])
        self.peer: Address | None = parse_address(document["peer"])
        self.seconds = float(document.get("seconds", 0.0))
        self.at = float(document["at"])
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
        name = self._probe.call(
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
        return Transfer(self._probe, self._probe.call("receive", stream=self.name, nbytes=nbytes))

    def echo(self) -> Transfer:
        """Begin to send back what arrives."""
        return Transfer(self._probe, self._probe.call("echo", stream=self.name))

    def facts(self) -> SocketFacts:
        """What the kernel says about the connection."""
        document = self._probe.call("facts", stream=self.name)
        return SocketFacts.parse(document, self._probe.host, self._probe.kernel)

    def setsockopt(self, level: int, option: int, value: int | bytes) -> None:
        """Set a socket option. Raises ProbeError with the errno."""
        raw = base64.b64encode(value).decode() if isinstance(value, bytes) else value
        self._probe.call("setsockopt", stream=self.name, level=level, option=option, value=raw)

    def shutdown(self) -> None:
        """End the sending direction."""
        self._probe.call("shutdown", stream=self.name)

    def close(self, reset: bool = False) -> None:
        """Close, with RST if ``reset``; ends its transfers. Closing again does nothing."""
        if not self._closed:
            self._closed = True
            self._probe.call("close", item=self.name, reset=reset)


class Listener:
    """A listening socket on the probe's host."""

    def __init__(self, probe: ProbeClient, document: dict[str, Any]) -> None:
        self._probe = probe
        self._name = str(document["listener"])
        self.local: Address | None = parse_address(document["local"])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def accepted(self) -> int:
        """How many connections were accepted so far, taken or not."""
        return int(self._probe.call("accepted", listener=self._name))

    def accept(self, within: float = 5.0) -> Stream:
        """The next accepted connection. Raises ProbeError "timeout"."""
        return Stream(
            self._probe, self._probe.call("accept", within + MARGIN, listener=self._name, timeout=within)
        )

    def release(self) -> None:
        """Begin to accept, for a listener opened with ``hold``."""
        self._probe.call("release", listener=self._name)

    def close(self) -> None:
        """Stop listening; connections that were accepted and not taken are reset."""
        self._probe.call("close", item=self._name)


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


class RunningBatch:
    """Many short connections under way."""

    def __init__(self, pending: Pending, within: float, host: str, kernel: str) -> None:
        self._pending, self._within, self._where = pending, within, (host, kernel)

    def wait(self) -> Batch:
        """What became of them. Raises ProbeError or HostVanished."""
        document = self._pending.result(self._within)
        if document["mptcp"] is None:
            document["mptcp"] = Absent("TCP_IS_MPTCP or MPTCP_INFO", *self._where)
        return Batch(**document)


def connect(probe: ProbeClient, within: float, **args: Any) -> Stream:
    """Connect from the probe's host. Raises ConnectFailed."""
    try:
        return Stream(probe, probe.call("connect", within + MARGIN, timeout=within, **args))
    except ProbeError as error:
        if error.kind != "connect":
            raise
        raise ConnectFailed(probe.host, error.what, error.errno or 0, float(error.more["seconds"])) from None
