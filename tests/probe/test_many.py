"""Test that a batch of short connections reports the result of each one."""

from __future__ import annotations

import hashlib

from mptcp_lab.probe import Probe

SERVER = "198.18.1.2"
MESSAGE = b"x" * 1000


def test_all_at_once(client: Probe, server: Probe) -> None:
    with server.listen(SERVER, 7000) as listener:
        batch = client.many(SERVER, 7000, MESSAGE, len(MESSAGE), 5, concurrent=5, hold=True)
        for _ in range(5):
            listener.accept().echo()
        done = batch.wait()
    assert (done.completed, done.failed, done.mptcp, done.most_open) == (5, {}, 5, 5)
    assert done.digests == {hashlib.sha256(MESSAGE).hexdigest(): 5}


def test_cut_before_the_answer(client: Probe, server: Probe) -> None:
    with server.listen(SERVER, 7000) as listener:
        batch = client.many(SERVER, 7000, MESSAGE, 1, 1)
        into = listener.accept()
        into.receive(len(MESSAGE)).wait(5)
        into.close()
        assert batch.wait().failed == {"CUT": 1}


def test_nobody_there(client: Probe) -> None:
    assert client.many(SERVER, 7009, MESSAGE, 1, 3).wait().failed == {"ECONNREFUSED": 3}


def test_no_answer_in_time(client: Probe, server: Probe) -> None:
    with server.listen(SERVER, 7000):
        assert client.many(SERVER, 7000, MESSAGE, 1, 3, within=0.3).wait().failed == {"ETIMEDOUT": 3}
