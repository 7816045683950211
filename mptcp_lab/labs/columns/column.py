"""Bring the lab up on another kernel: machine, hosts inside it, their sockets outside.

The controller, playbooks and suite stay on this machine, and reach the hosts by the same paths as ever.
`mptcp_lab.labs.lifecycle.take_down` removes a column like any other lab.
"""

from __future__ import annotations

import base64
import contextlib
import json
import subprocess
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

from mptcp_lab import patience
from mptcp_lab.answers import member, parse
from mptcp_lab.inventory.document import document_of
from mptcp_lab.inventory.model import Lab
from mptcp_lab.labs import keys, lifecycle
from mptcp_lab.labs.columns import code, machine
from mptcp_lab.labs.columns.choice import Choice
from mptcp_lab.labs.columns.image import build_disks, build_images
from mptcp_lab.labs.columns.kernels import BUILT_IN, kernel_folder, prepare_kernel
from mptcp_lab.labs.columns.record import read_record, write_record
from mptcp_lab.labs.columns.spec import RECORDED
from mptcp_lab.labs.containers import hosts, image
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.executor import executor_of
from mptcp_lab.labs.kernel import Lack
from mptcp_lab.labs.lab_paths import COLUMN, LabPaths, give_to_caller
from mptcp_lab.labs.lifecycle import Say

#: Timeouts in seconds on a normal machine: the hosts' start inside, the forwarding of their sockets, and
#: the trials of what the kernel has.
UP_WITHIN_S, FORWARD_WITHIN_S, LACKS_WITHIN_S = 90.0, 15.0, 60.0
#: The lock file of what only columns need, in the cache.
LOCK = "machine.lock"
SEND_CODE = """\
[ "$(cat FOLDER/stamp 2>/dev/null)" != "$1" ] || exit 0
umask 077 && rm -rf FOLDER && mkdir -p FOLDER && base64 -d >FOLDER/code.zip &&
    python3 -m zipfile -e FOLDER/code.zip FOLDER && echo "$1" >FOLDER/stamp
"""


def bring_up(paths: LabPaths, lab: Lab, chosen: Choice, say: Say) -> bool:
    """Converge the column to the inventory, and return whether anything changed."""
    lifecycle.require_root()
    with lifecycle.lab_lock(paths):
        check_build(paths, chosen)
        patience.use(patience.read_factor(paths.state) or 1.0)
        if started := not _is_running(paths):
            _start_machine(paths, lab, chosen, say)
        record = read_record(paths)
        if record and record.lab == _digest(lab) and set(status(paths, lab).values()) == {"up"}:
            return False
        return _bring_hosts_up(paths, lab, say) or started


def check_build(paths: LabPaths, chosen: Choice) -> None:
    """Refuse a kernel whose files were built again since the lab came up on them."""
    record = read_record(paths)
    if record and chosen.spec.kind != RECORDED and Path(record.kernel) != kernel_folder(paths, chosen.spec):
        raise EmbeddedError(
            f"the lab {paths.name} is up on an earlier build of {chosen.spec.word}",
            "./lab down, then up again",
        )


def _is_running(paths: LabPaths) -> bool:
    """Return whether the machine of the column runs, and answers over SSH."""
    return (
        read_record(paths) is not None
        and COLUMN in hosts.list_running(paths)
        and hosts.answers(paths, COLUMN)
    )


def _prepare_kernel(paths: LabPaths, lab: Lab, chosen: Choice, say: Say) -> Path:
    """Build what is missing in the cache; return the folder of the chosen kernel.

    A column whose machine has ended starts again on the very kernel that is recorded.
    """
    record = read_record(paths)
    with image.one_build(paths):
        build_images(paths, lab, say)
    with image.one_build(paths, LOCK):  # a lab that waits for the hosts' images waits for nothing else
        build_disks(paths, lab, say)
        if record and (Path(record.kernel) / "kernel.json").is_file():
            return Path(record.kernel)
        if chosen.spec.kind == RECORDED:
            raise EmbeddedError(
                f"the machine has ended, and the cache no longer has its kernel {chosen.spec.word}",
                "./lab down, then ./lab up with --kernel",
            )
        return prepare_kernel(paths, chosen.spec, say)


def _digest(lab: Lab) -> str:
    return code.fingerprint(json.dumps(document_of(lab), sort_keys=True, default=str).encode())


def _start_machine(paths: LabPaths, lab: Lab, chosen: Choice, say: Say) -> None:
    """Start the machine from a fresh disk, wait until it answers, and measure its speed."""
    kernel = _prepare_kernel(paths, lab, chosen, say)
    lifecycle.prepare_folders(paths, lab)
    hosts.stop(paths, hosts.list_running(paths))
    accelerator = machine.accelerator(paths, kernel)
    public = machine.prepare(paths)
    patience.use(machine.EMULATED if accelerator == "tcg" else 1.0)  # until the machine is measured
    keys.write_ssh_files(paths, {COLUMN: public})
    write_record(paths, chosen.record(kernel))
    say(f"booting {chosen.spec.label} ({'emulated' if accelerator == 'tcg' else 'with KVM'})")
    machine.start(paths, machine.command(paths, lab, kernel, accelerator))
    try:
        hosts.await_answers(paths, [COLUMN], say, machine.BOOT_WITHIN_S)
    except EmbeddedError as error:
        raise _explain(error, kernel) from None
    patience.use(machine.measure(paths, accelerator))
    patience.keep(paths.state)
    give_to_caller(paths.state / patience.FILE)
    keys.write_ssh_files(paths, {COLUMN: public})


def _explain(error: EmbeddedError, kernel: Path) -> EmbeddedError:
    """Return the error of a boot that failed, with what a kernel without modules has to have built in."""
    if (kernel / "modules.img").is_file():
        return error
    return EmbeddedError(
        f"{error.what}\nThis kernel has no modules, so it needs built in: {', '.join(BUILT_IN)}",
        "./lab down, then add the options, or give its modules with --modules DIR",
    )


def _bring_hosts_up(paths: LabPaths, lab: Lab, say: Say) -> bool:
    """Send the code into the machine, bring the lab up there, and forward the hosts' sockets."""
    _send_code(paths)
    _check_lacks(find_lacks(paths, lab), say)
    answer = ask_inside(paths, lab, "up", say, UP_WITHIN_S)
    own = next(
        line
        for line in (paths.state / "known_hosts").read_text().splitlines()
        if line.startswith(f"{COLUMN} ")
    )
    known = dict(line.split(" ", 1) for line in [own, *answer["known_hosts"].splitlines()])
    keys.write_ssh_files(paths, known)
    machine.forward_sockets(paths, lab)
    hosts.await_answers(paths, list(lab.hosts), lambda _: None, FORWARD_WITHIN_S)
    if record := read_record(paths):
        write_record(paths, replace(record, lab=_digest(lab)))
    return bool(answer["changed"])


def _check_lacks(lacks: list[Lack], say: Say) -> None:
    """Report what the kernel lacks; raise `EmbeddedError` if the lab cannot come up without it."""
    if needed := [lack for lack in lacks if lack.needed]:
        raise EmbeddedError(
            "the kernel lacks what every lab needs:\n    " + "\n    ".join(map(str, needed)),
            "./lab down, and build the kernel with these options",
        )
    for lack in lacks:
        say(f"the kernel lacks {lack}")


def _send_code(paths: LabPaths) -> None:
    """Put the part of this package that manages labs into the machine, unless this version is there."""
    packed = code.pack()
    script, stamp = SEND_CODE.replace("FOLDER", str(code.FOLDER)), code.fingerprint(packed)
    machine.run_inside(paths, "sh", "-c", script, "sh", stamp, text=base64.b64encode(packed).decode())


def ask_inside(paths: LabPaths, lab: Lab, action: str, say: Say, within: float) -> Any:
    """Run an action of `mptcp_lab.labs.columns.inside`, passing its progress to `say`; return its answer."""
    request = {
        "root": str(paths.root),
        "name": paths.name,
        "inventory": document_of(lab),
        "source": lab.source,
    }
    request["user_key"] = {
        name: (paths.state / name).read_text() for name in ("id_ed25519", "id_ed25519.pub")
    }
    factor = f"{patience.ENVIRONMENT}={patience.factor():g}"
    program = ("python3", "-B", "-m", "mptcp_lab.labs.columns.inside", action)
    command = executor_of(paths).command("env", "-C", str(code.FOLDER), factor, *program)
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout and process.stderr
        watch = threading.Timer(patience.patient(within), process.kill)
        watch.start()
        last = "no answer"
        try:
            with contextlib.suppress(BrokenPipeError):  # it has ended, and standard error has the reason
                process.stdin.write(json.dumps(request))
                process.stdin.close()
            for line in process.stderr:
                last = line.strip()
                say(last)
            printed = process.stdout.read()
            process.wait()
        finally:  # an interrupt must not wait for the timer
            watch.cancel()
            process.kill()
    if process.returncode:
        raise EmbeddedError(
            f"in the machine: {last}", f"./lab shell {COLUMN} to look, ./lab down to remove it"
        )
    answer = parse(printed, f"{action} in the machine")
    member(answer, f"{action} in the machine", "changed" if action == "up" else "lacks")
    return answer


def find_lacks(paths: LabPaths, lab: Lab) -> list[Lack]:
    """Return what the column's kernel lacks of what the lab and its hosts use."""
    answer = ask_inside(paths, lab, "lacks", lambda _: None, LACKS_WITHIN_S)
    return [Lack(**each) for each in answer["lacks"]]


def status(paths: LabPaths, lab: Lab) -> dict[str, str]:
    """Return each host's state: ``up``, ``starting`` (or hung) or ``down``."""
    running = COLUMN in hosts.list_running(paths)
    return {
        name: "up" if running and hosts.answers(paths, name) else "starting" if running else "down"
        for name in lab.hosts
    }
