"""Load an eBPF program that gives this process MPTCP sockets where it asks for TCP ones.

The kernel calls update_socket_protocol for each socket() (Linux 6.6, net/socket.c), and a program may replace
its result. The program here does so for this process only, and ends with it. It is written in instructions,
because hosts need not have a compiler.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import platform
import struct
from pathlib import Path

from ..basics import AgentError
from ..sockets import IPPROTO_MPTCP

BTF = Path("/sys/kernel/btf/vmlinux")
FUNCTION = "update_socket_protocol"
CAPABILITY = "eBPF (update_socket_protocol)"
#: bpf(2) by machine (unistd.h), its commands, and the program's kind (include/uapi/linux/bpf.h).
SYSTEM_CALLS = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
PROG_LOAD, RAW_TRACEPOINT_OPEN, TRACING, MODIFY_RETURN = 5, 17, 26, 26
GET_NS_CURRENT_PID_TGID = 120
#: Offsets of fields of a PROG_LOAD request, and its size.
EXPECTED_ATTACH_TYPE, ATTACH_BTF_ID, REQUEST_BYTES = 68, 108, 128
#: Octets that follow a type of a kind (include/uapi/linux/btf.h), once or for each of its members.
FIXED = {1: 4, 3: 12, 14: 4, 17: 4}
EACH = {4: 12, 5: 12, 6: 8, 13: 8, 15: 12, 19: 12}
KIND_FUNC, BTF_MAGIC = 12, 0xEB9F
AF_INET, AF_INET6, SOCK_STREAM, SOCK_TYPE_MASK, IPPROTO_TCP = 2, 10, 1, 0xF, 6
#: Codes of instructions: see Documentation/bpf/standardization/instruction-set.rst.
LOAD_64, LOAD_32, LOAD_CONSTANT, MOVE, MOVE_32, SET, ADD, AND = 0x79, 0x61, 0x18, 0xBF, 0xBC, 0xB7, 0x07, 0x57
IF_EQUAL, IF_DIFFERENT, CALL, EXIT = 0x15, 0x55, 0x85, 0x95
INSTRUCTION, LEAVE = struct.Struct("=BBhI"), 0x7FFF


def find_function(btf: bytes, name: str) -> int:
    """Return the id of a function in the kernel's type information (BTF), or 0."""
    magic, _, _, head, types, types_len, strings, strings_len = struct.unpack_from("=HBBIIIII", btf)
    if magic != BTF_MAGIC:
        raise ValueError(f"no BTF: it begins with {magic:#x}")
    names = btf[head + strings : head + strings + strings_len]
    wanted = names.find(b"\0" + name.encode() + b"\0") + 1
    at, end, number = head + types, head + types + types_len, 0
    while wanted and at < end:
        number += 1
        name_at, info, _ = struct.unpack_from("=III", btf, at)
        kind, members = info >> 24 & 0x1F, info & 0xFFFF
        if kind == KIND_FUNC and name_at == wanted:
            return number
        at += 12 + FIXED.get(kind, 0) + members * EACH.get(kind, 0)
    return 0


def build_program(namespace: os.stat_result, process: int) -> bytes:
    """Return the instructions: MPTCP for TCP sockets of a process of a PID namespace, else no change.

    An instruction is (code, target register, source register, offset, value). The offset LEAVE leads to the
    last two, which change nothing.
    """
    steps = [
        (MOVE, 6, 1, 0, 0),
        *_argument(1),
        (AND, 2, 0, 0, SOCK_TYPE_MASK),
        (IF_DIFFERENT, 2, 0, LEAVE, SOCK_STREAM),
        *_argument(2),
        (IF_EQUAL, 2, 0, 1, 0),
        (IF_DIFFERENT, 2, 0, LEAVE, IPPROTO_TCP),
        *_argument(0),
        (IF_EQUAL, 2, 0, 1, AF_INET),
        (IF_DIFFERENT, 2, 0, LEAVE, AF_INET6),
        *_constant(1, namespace.st_dev),
        *_constant(2, namespace.st_ino),
        (MOVE, 3, 10, 0, 0),
        (ADD, 3, 0, 0, -8),
        (SET, 4, 0, 0, 8),
        (CALL, 0, 0, 0, GET_NS_CURRENT_PID_TGID),
        (IF_DIFFERENT, 0, 0, LEAVE, 0),
        (LOAD_32, 1, 10, -4, 0),
        (IF_DIFFERENT, 1, 0, LEAVE, process),
        (SET, 0, 0, 0, IPPROTO_MPTCP),
        (EXIT, 0, 0, 0, 0),
        (SET, 0, 0, 0, 0),
        (EXIT, 0, 0, 0, 0),
    ]
    last = len(steps) - 2
    return b"".join(
        INSTRUCTION.pack(
            code, target | source << 4, last - at - 1 if offset == LEAVE else offset, value & 0xFFFFFFFF
        )
        for at, (code, target, source, offset, value) in enumerate(steps)
    )


def _argument(number: int) -> list[tuple[int, int, int, int, int]]:
    """Return the instructions that load an argument of the function, an int, into register 2."""
    return [(LOAD_64, 2, 6, 8 * number, 0), (MOVE_32, 2, 2, 0, 0)]


def _constant(register: int, value: int) -> list[tuple[int, int, int, int, int]]:
    """Return the instructions that load a constant of 64 bits."""
    return [(LOAD_CONSTANT, register, 0, 0, value), (0, 0, 0, 0, value >> 32)]


class SocketProgram:
    """The program at work, until it is closed or the process ends.

    Raises AgentError "unsupported" if the kernel lacks what the program needs, or if it, or what confines the
    host (the system call filter of a container), refuses the program.
    """

    def __init__(self) -> None:
        try:
            function = find_function(BTF.read_bytes(), FUNCTION)
        except OSError as error:
            raise _make_error(f"the kernel has no BTF: {error}", error.errno) from None
        if not function:
            raise _make_error(f"the kernel has no function {FUNCTION} (Linux 6.6)")
        code = build_program(Path("/proc/self/ns/pid").stat(), os.getpid())
        self._program = _load(code, function)
        try:
            self._link = _bpf(RAW_TRACEPOINT_OPEN, struct.pack("=QI", 0, self._program).ljust(16, b"\0"))
        except OSError as error:
            os.close(self._program)
            raise _make_error(f"the host may not attach the program: {error}", error.errno) from None

    def close(self) -> None:
        """Detach the program."""
        for each in (self._link, self._program):
            with contextlib.suppress(OSError):
                os.close(each)


def _load(code: bytes, function: int) -> int:
    """Load the program for a function of the kernel; return its file descriptor."""
    instructions, license_text = (
        ctypes.create_string_buffer(code, len(code)),
        ctypes.create_string_buffer(b"GPL"),
    )
    request = bytearray(REQUEST_BYTES)
    pointers = (ctypes.addressof(instructions), ctypes.addressof(license_text))
    struct.pack_into("=IIQQ", request, 0, TRACING, len(code) // 8, *pointers)
    struct.pack_into("=I", request, EXPECTED_ATTACH_TYPE, MODIFY_RETURN)
    struct.pack_into("=I", request, ATTACH_BTF_ID, function)
    try:
        return _bpf(PROG_LOAD, bytes(request))
    except OSError as error:
        raise _make_error(f"the host may not load the program: {error}", error.errno) from None


def _bpf(command: int, request: bytes) -> int:
    """Call bpf(2); return the file descriptor that it returns."""
    number = SYSTEM_CALLS.get(platform.machine())
    if number is None:
        raise OSError(errno.ENOSYS, f"the number of bpf(2) on {platform.machine()} is not known")
    library = ctypes.CDLL(None, use_errno=True)
    found = library.syscall(number, command, ctypes.create_string_buffer(request, len(request)), len(request))
    if found < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return int(found)


def _make_error(why: str, number: int | None = None) -> AgentError:
    return AgentError("unsupported", why, number, capability=CAPABILITY)
