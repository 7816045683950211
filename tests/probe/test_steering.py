"""Test path management from user space by netlink, against the kernel's answers and events."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import pytest

from mptcp_lab.probe import Probe, ProbeError, Stream, Subflow, eventually

pytestmark = pytest.mark.usefixtures("leased")

A2, B, B2, PORT = "198.18.2.1", "198.18.1.2", "198.18.2.2", 7000


@contextmanager
def steered(client: Probe, server: Probe) -> Iterator[Stream]:
    """Yield a fully established connection whose client uses the userspace path manager.

    The server announces no address.
    """
    with ExitStack() as stack:
        stack.enter_context(server.fault("endpoint_remove", address=B2))
        stack.enter_context(client.fault("sysctl", name="net.mptcp.path_manager", value="userspace"))
        listener = stack.enter_context(server.listen(B, PORT))
        stack.enter_context(server.listen(B2, PORT))
        out = stack.enter_context(client.connect(B, PORT))
        into = stack.enter_context(listener.accept())
        into.receive()
        out.send(1000).wait(5)
        eventually(lambda: into.facts().info or {}, lambda info: info.get("bytes_received"), within=5)
        yield out


def second(stream: Stream) -> list[Subflow]:
    return [subflow for subflow in stream.facts().subflows if subflow.local == A2]


def joined(stream: Stream) -> Subflow:
    return eventually(lambda: second(stream), until=len, within=5, what="a second subflow")[0]


def test_a_subflow_comes_and_goes_as_ordered(client: Probe, server: Probe) -> None:
    with steered(client, server) as out:
        assert len(out.facts().subflows) == 1
        paths = client.steering(out)
        paths.create_subflow(A2, 1, B2, PORT)
        subflow = joined(out)
        assert (subflow.remote, subflow.rport) == (B2, PORT)
        paths.destroy_subflow(subflow)
        eventually(lambda: second(out), until=lambda left: not left, within=5, what="its end")
        assert [subflow.remote for subflow in out.facts().subflows] == [B]
        # The host's gauge counts the connections of earlier tests too, which may take minutes to close.
        assert client.counters().mptcp("MPCurrEstab") >= 1


def test_a_subflow_made_as_backup_becomes_regular(client: Probe, server: Probe) -> None:
    before = server.counters()
    with steered(client, server) as out, server.watch_events() as watch:
        paths = client.steering(out)
        paths.create_subflow(A2, 1, B2, PORT, backup=True)
        subflow = joined(out)
        assert server.counters().delta(before).mptcp("MPJoinSynBackupRx") == 1
        paths.set_backup(subflow, backup=False)
        changed = watch.wait_for(lambda event: event["type"] == "sub_priority", within=5)
    assert (changed["daddr"], changed["backup"]) == (A2, 0)


def test_announcing_and_removing_reach_the_peer(client: Probe, server: Probe) -> None:
    with steered(client, server) as out, server.watch_events() as watch:
        paths = client.steering(out)
        paths.announce(A2, 7, port=7070)
        told = watch.wait_for(lambda event: event["type"] == "announced", within=5)
        assert (told["daddr"], told["rem_id"], told["dport"]) == (A2, 7, 7070)
        paths.remove(7)
        assert watch.wait_for(lambda event: event["type"] == "removed", within=5)["rem_id"] == 7


def test_an_order_about_a_connection_of_the_kernel_is_refused(client: Probe, server: Probe) -> None:
    with (
        server.listen(B, PORT),
        client.connect(B, PORT) as out,
        pytest.raises(ProbeError, match="path_manager=userspace") as refused,
    ):
        client.steering(out).create_subflow(A2, 1, B2, PORT)
    assert refused.value.errno == errno.EINVAL


def test_a_plain_connection_has_no_steering(client: Probe, server: Probe) -> None:
    with (
        server.listen(B, PORT),
        client.connect(B, PORT, protocol="tcp") as out,
        pytest.raises(ProbeError, match="not MPTCP"),
    ):
        client.steering(out)


def test_an_announced_endpoint_comes_back_after_a_join_without_it(client: Probe, server: Probe) -> None:
    """Check that the fault's undo removes the implicit endpoint that the join created."""
    before = server.endpoints()
    with steered(client, server) as out:
        client.steering(out).create_subflow(A2, 1, B2, PORT)
        joined(out)
    assert server.endpoints() == before
