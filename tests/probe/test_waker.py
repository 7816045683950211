"""Test the waits inside the probe."""

from __future__ import annotations

import threading

from mptcp_lab.agent.lab_agent.sockets import Waker


def test_a_pause_that_is_over_already_does_not_wait() -> None:
    waker = Waker()
    paused = threading.Thread(target=waker.pause, args=(-0.001,), daemon=True)
    paused.start()
    paused.join(10.0)
    assert not paused.is_alive()
    waker.close()
