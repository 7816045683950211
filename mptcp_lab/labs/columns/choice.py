"""Choose the kernel of a lab: by the option, as the lab is up, or by the inventory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from mptcp_lab.inventory.model import Lab
from mptcp_lab.labs import lifecycle
from mptcp_lab.labs.columns.record import Record, read_record
from mptcp_lab.labs.columns.spec import HOST, RECORDED, KernelSpec, parse_spec
from mptcp_lab.labs.errors import EmbeddedError
from mptcp_lab.labs.lab_paths import LabPaths

OPTION, INVENTORY = "option", "inventory"


@dataclass(frozen=True)
class Choice:
    """A kernel, and by what it was chosen: ``option`` or ``inventory``."""

    spec: KernelSpec
    by: str

    def record(self, kernel: Path, lab: str = "") -> Record:
        """Return the record of a lab that is up on this kernel."""
        return Record(self.spec.word, str(self.spec.modules or ""), self.by, str(kernel), lab)


def choose_kernel(paths: LabPaths, lab: Lab, given: KernelSpec | None) -> Choice:
    """Return the kernel that a lab runs on, or would run on.

    ``given`` (by the option) comes first, then the kernel that the lab is up on by an option, so that
    ``lab.yml`` and the suite need no option, then ``lab_kernel`` of the inventory.

    Raises:
        EmbeddedError: the lab is up on another kernel than the chosen one.
    """
    up = read_record(paths)
    if given is None and up and up.chosen_by == OPTION:
        return Choice(_recorded_spec(up), OPTION)
    chosen = Choice(given, OPTION) if given else Choice(inventory_kernel(lab), INVENTORY)
    if lab.flavour != "embedded" and not chosen.spec.is_host:
        raise EmbeddedError(
            f"{lab.source}: only a lab of containers runs on a chosen kernel (lab_flavour: {lab.flavour})",
            "use --inventory embedded, or a copy of it",
        )
    if up or lifecycle.exists(paths):
        check_given(paths, chosen.spec)
    return chosen


def check_given(paths: LabPaths, given: KernelSpec) -> None:
    """Refuse a kernel other than the one that the lab is up on."""
    up = read_record(paths)
    if not up and not lifecycle.exists(paths):
        return
    word, modules = (up.spec, up.modules) if up else (HOST, "")
    if (word, modules) != (given.word, str(given.modules or "")):
        kernel = "this machine's kernel" if word == HOST else word
        raise EmbeddedError(
            f"the lab {paths.name} is up on {kernel}, not on {given.word}", "./lab down, then up again"
        )


def inventory_kernel(lab: Lab) -> KernelSpec:
    """Return the kernel that ``lab_kernel`` names; relative paths start at the inventory's folder.

    Raises:
        EmbeddedError: it names no kernel.
    """
    variables = next(iter(lab.hosts.values())).variables
    word = str(variables.get("lab_kernel", HOST))
    modules = variables.get("lab_kernel_modules")
    source = Path(lab.source)
    base = source if source.is_dir() else source.parent
    try:
        return parse_spec(word, str(modules) if modules else None, base)
    except EmbeddedError as error:
        what = error.what.removeprefix("--kernel ")
        raise EmbeddedError(f"{lab.source}: lab_kernel: {what}", error.next_step) from None


def _recorded_spec(record: Record) -> KernelSpec:
    """Return the recorded kernel; its files may be gone or built again meanwhile."""
    modules = Path(record.modules) if record.modules else None
    return KernelSpec(RECORDED, record.spec, (), modules)
