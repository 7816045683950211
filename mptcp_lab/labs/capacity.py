"""Find out how many equal embedded labs this machine carries, for a run whose checks they share."""

from __future__ import annotations

import os
import re
from pathlib import Path

#: More labs than this save little time: two processors are busy with the checks of three.
MOST_SHARED = 3
#: Memory of a host, and memory that stays free: for the suite, for Ansible and for other programs.
HOST_MB, OTHER_MB = 100, 1500
#: Inotify instances of a host, and those that stay free. By default Linux allows a user 128.
HOST_INOTIFY, OTHER_INOTIFY = 4, 8


def carried_labs(hosts: int, up: int = 0) -> int:
    """Return how many labs of so many hosts this machine carries, of which `up` labs are up; at least 1."""
    if (os.cpu_count() or 1) < 2:
        return 1
    room = (available_mb() - OTHER_MB) // (hosts * HOST_MB)
    limit, used = inotify_instances()
    room = min(room, (limit - used - OTHER_INOTIFY) // (hosts * HOST_INOTIFY))
    return max(1, min(MOST_SHARED, up + room))


def available_mb() -> int:
    """Return the memory in MB that processes can get without swapping (proc_meminfo(5), MemAvailable)."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
    return int(found.group(1)) // 1000 if found else 0


def inotify_instances() -> tuple[int, int]:
    """Return how many inotify instances root may have, and how many it has (inotify(7))."""
    limit = int(Path("/proc/sys/fs/inotify/max_user_instances").read_text())
    return limit, sum(1 for link in Path("/proc").glob("[0-9]*/fd/*") if is_inotify(link, 0))


def is_inotify(link: Path, user: int | None = None) -> bool:
    """Return whether a link below /proc/PID/fd is an inotify instance (of `user`); False if it is closed."""
    try:
        return link.readlink().name == "anon_inode:inotify" and user in (None, link.lstat().st_uid)
    except OSError:
        return False
