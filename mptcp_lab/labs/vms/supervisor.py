"""Runs one QEMU, and answers on a Unix socket for the SSH port that QEMU forwards. Ends with QEMU.

keeper.py SOCKET ADDRESS QEMU [ARGUMENT...], in the fabric's network namespace: nobody else sees its loopback.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
from pathlib import Path

CHUNK = 1 << 16


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Copy until the reader's end."""
    with contextlib.suppress(OSError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()


async def _relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, address: str) -> None:
    """Carry one SSH connection; when one side has ended there is nothing left to say to the other.

    QEMU accepts before the machine does: whoever gave up waiting for a booting machine must not stay behind.
    """
    with contextlib.suppress(OSError):
        far_reader, far_writer = await asyncio.open_connection(address, 22)
        pumps = [
            asyncio.create_task(_pump(reader, far_writer)),
            asyncio.create_task(_pump(far_reader, writer)),
        ]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        far_writer.close()
    writer.close()


async def keep(path: Path, address: str, qemu: list[str]) -> int:
    """Serve `path` for as long as QEMU runs; return its exit status."""
    path.unlink(missing_ok=True)
    server = await asyncio.start_unix_server(lambda r, w: _relay(r, w, address), path)
    path.chmod(0o600)
    if uid := os.environ.get("SUDO_UID"):
        os.chown(path, int(uid), int(os.environ["SUDO_GID"]))
    process = await asyncio.create_subprocess_exec(*qemu)
    code = await process.wait()
    server.close()
    path.unlink(missing_ok=True)
    return code


if __name__ == "__main__":
    sys.exit(asyncio.run(keep(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])))
