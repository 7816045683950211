"""The agent calls the manager of systemd: bytes of messages, answers, and the program used instead."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mptcp_lab.agent.lab_agent import bus
from mptcp_lab.agent.lab_agent.faults import timer

#: A call of D in interface b.c of object /a with the string "x", written down by the D-Bus specification.
EXPECTED = (
    b"l\1\0\1" + b"\6\0\0\0" + b"\1\0\0\0" + b"\67\0\0\0"  # 55 bytes of header fields
    b"\1\1o\0" + b"\2\0\0\0/a\0" + bytes(5) + b"\2\1s\0" + b"\3\0\0\0b.c\0" + bytes(4)
    + b"\3\1s\0" + b"\1\0\0\0D\0" + bytes(6) + b"\10\1g\0" + b"\1s\0" + bytes(1)
    + b"\1\0\0\0x\0"
)  # fmt: skip
STATE = b"\1s\0\0" + b"\6\0\0\0active\0"


def answer(kind: int, body: bytes) -> bytes:
    return b"l" + bytes([kind, 0, 1]) + len(body).to_bytes(4, "little") + b"\1\0\0\0" + bytes(4) + body


@contextmanager
def manager(path: Path, *answers: bytes, login: bytes = b"OK 0123\r\n") -> Iterator[list[bytes]]:
    """Listen in systemd's place, and send the answers after the first call; yield what was received."""
    got: list[bytes] = []

    def serve() -> None:
        with listener.accept()[0] as stream:
            got.append(stream.recv(4096))
            stream.sendall(login)
            got.append(stream.recv(4096))
            stream.sendall(b"".join(answers))
            while answers and stream.recv(4096):
                pass

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=serve)
        thread.start()
        yield got
        thread.join()


@pytest.fixture
def private(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path_factory.mktemp("s") / "p"
    monkeypatch.setattr(bus, "PRIVATE", path)
    return path


def test_a_call_is_packed_as_the_specification_says() -> None:
    assert bus.pack_call("/a", "b.c", "D", "s", ["x"]) == EXPECTED


def test_structures_arrays_and_variants_are_aligned() -> None:
    out = bytearray()
    bus.pack(out, "a(sv)", [("n", ("a(st)", [("mmmm", 7)]))])
    inner = b"\4\0\0\0mmmm\0" + bytes(7) + (7).to_bytes(8, "little")
    outer = b"\1\0\0\0n\0" + b"\5a(st)\0" + bytes(3) + b"\30\0\0\0" + bytes(4) + inner
    assert bytes(out) == len(outer).to_bytes(4, "little") + bytes(4) + outer


def test_signals_before_an_answer_are_skipped(private: Path) -> None:
    with manager(private, answer(4, b"signal"), answer(bus.RETURN, STATE)) as got, bus.Bus() as opened:
        assert opened.read_state("a.timer") == "active"
    assert b"BEGIN\r\n" in got[0]
    assert b"/org/freedesktop/systemd1/unit/a_2etimer\0" in got[1]


def test_a_refusal_has_the_managers_words(private: Path) -> None:
    refusal = answer(bus.ERROR, b"\4\0\0\0no!!\0")
    with manager(private, refusal), bus.Bus() as opened, pytest.raises(bus.BusError, match="StopUnit: no!!"):
        opened.call(bus.ROOT_PATH, bus.MANAGER, "StopUnit", "ss", "a.timer", "replace")


@pytest.mark.parametrize("answers", [(), (b"B" * 16,)])
def test_a_manager_that_answers_nonsense_is_an_error(private: Path, answers: tuple[bytes, ...]) -> None:
    with manager(private, *answers), bus.Bus() as opened, pytest.raises(bus.BusError):
        opened.read_state("a.timer")


@pytest.fixture
def programs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """Return the programs that the timer runs on a host with systemd."""
    ran: list[list[str]] = []
    monkeypatch.setattr(timer, "SYSTEMD", tmp_path)
    monkeypatch.setattr(timer, "program_command", lambda: ["/lift"])
    monkeypatch.setattr(timer, "run_tool", ran.append)
    return ran


def test_systemds_own_program_is_run_where_the_socket_does_not_answer(
    private: Path, programs: list[list[str]]
) -> None:
    timer.arm_timer("ab", 2)
    timer.disarm_timer("ab")  # nothing is raised: a timer without its fault does nothing
    ((program, *words),) = programs
    assert (
        program == "systemd-run" and words[-3:] == ["/lift", "lift", "ab"] and "--on-active=2.000s" in words
    )


def test_a_refused_property_is_left_to_systemds_own_program(private: Path, programs: list[list[str]]) -> None:
    with manager(private, answer(bus.ERROR, b"\4\0\0\0no!!\0")):
        timer.arm_timer("ab", 2)
    assert len(programs) == 1


def test_no_program_is_run_where_the_timer_is_active(private: Path, programs: list[list[str]]) -> None:
    with manager(private, answer(bus.RETURN, b""), answer(bus.RETURN, STATE)):
        timer.arm_timer("ab", 2)
    assert programs == []
