"""Operations on transfers: send, receive and echo on an open stream."""

from __future__ import annotations

import collections
from typing import Any

from ..basics import Json, Registry, patient
from ..streams import Transfer, start_echo, start_receive, start_send
from .base import Operations

TRANSFERS_KEPT = 5000  # transfers whose results stay available


class TransferOperations(Operations):
    """Begin transfers, and report their progress and their end."""

    def __init__(self) -> None:
        super().__init__()
        self.transfers = Registry()
        self._recent: collections.deque[str] = collections.deque()

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
