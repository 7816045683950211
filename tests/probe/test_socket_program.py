"""Test the eBPF program that gives a process MPTCP: its instructions, and how its function is found."""

from __future__ import annotations

import socket
import struct
from pathlib import Path

import pytest

from mptcp_lab.agent.lab_agent.kernel import socket_program
from mptcp_lab.agent.lab_agent.kernel.socket_program import build_program, find_function

MPTCP = 262
PROCESS, OTHER = 4711, 4712
STREAM = socket.SOCK_STREAM | socket.SOCK_CLOEXEC


def run(code: bytes, arguments: tuple[int, int, int], process: int) -> int:
    """Interpret the instructions, for a call of the function with these arguments by a process."""
    steps = list(socket_program.INSTRUCTION.iter_unpack(code))
    registers, asked, at = [0] * 11, (0, 0), 0
    while True:
        operation, both, offset, value = steps[at]
        target, source, at = both & 0xF, both >> 4, at + 1
        if operation == socket_program.EXIT:
            return registers[0]
        if operation == socket_program.LOAD_CONSTANT:
            registers[target], at = value | steps[at][3] << 32, at + 1
        elif operation == socket_program.LOAD_64:
            registers[target] = arguments[offset // 8] | 0xABCD << 32  # the upper half may be anything
        elif operation == socket_program.LOAD_32:
            registers[target] = process
        elif operation in (socket_program.MOVE, socket_program.MOVE_32):
            registers[target] = registers[source] & (
                0xFFFFFFFF if operation == socket_program.MOVE_32 else -1
            )
        elif operation == socket_program.SET:
            registers[target] = value
        elif operation == socket_program.AND:
            registers[target] &= value
        elif operation == socket_program.IF_EQUAL:
            at += offset if registers[target] == value else 0
        elif operation == socket_program.IF_DIFFERENT:
            at += offset if registers[target] != value else 0
        elif operation == socket_program.CALL:
            asked = registers[1], registers[2]
            registers[0] = 0 if asked == IDENTITY else 0xFFFFFFEA  # -EINVAL
        else:
            assert operation == socket_program.ADD, f"instruction {operation:#x}"


NAMESPACE = Path("/proc/self/ns/pid").stat()
IDENTITY = (NAMESPACE.st_dev, NAMESPACE.st_ino)


@pytest.mark.parametrize(
    ("arguments", "process", "wanted"),
    [
        ((socket.AF_INET, STREAM, 0), PROCESS, MPTCP),
        ((socket.AF_INET6, socket.SOCK_STREAM, socket.IPPROTO_TCP), PROCESS, MPTCP),
        ((socket.AF_INET, STREAM, 0), OTHER, 0),
        ((socket.AF_INET, socket.SOCK_DGRAM, 0), PROCESS, 0),
        ((socket.AF_INET, STREAM, socket.IPPROTO_SCTP), PROCESS, 0),
        ((socket.AF_UNIX, STREAM, 0), PROCESS, 0),
    ],
    ids=["tcp", "tcp-by-number", "other-process", "udp", "sctp", "unix"],
)
def test_program_changes_tcp_sockets_of_one_process(
    arguments: tuple[int, int, int], process: int, wanted: int
) -> None:
    assert run(build_program(NAMESPACE, PROCESS), arguments, process) == wanted


def btf(*types: tuple[str, int, int, bytes]) -> bytes:
    """Return type information: each type's name, kind, number of members and the octets that follow."""
    names, table = b"\0", b""
    for name, kind, members, rest in types:
        table += struct.pack("=III", len(names), kind << 24 | members, 0) + rest
        names += name.encode() + b"\0"
    head = struct.pack("=HBBIIIII", socket_program.BTF_MAGIC, 1, 0, 24, 0, len(table), len(table), len(names))
    return head + table + names


def test_function_is_found_behind_types_of_every_size() -> None:
    kinds = [*socket_program.FIXED.items(), *((kind, 2 * size) for kind, size in socket_program.EACH.items())]
    before = [
        (f"t{kind}", kind, 2 if kind in socket_program.EACH else 0, bytes(size)) for kind, size in kinds
    ]
    document = btf(*before, ("update", 2, 0, b""), ("update_it", 12, 0, b""))
    assert find_function(document, "update_it") == len(before) + 2
    assert find_function(document, "date_it") == 0, "a name that ends another one"
    assert find_function(document, "update") == 0, "a type of this name that is no function"


def test_other_octets_are_refused() -> None:
    with pytest.raises(ValueError, match="no BTF"):
        find_function(bytes(64), "update_it")
