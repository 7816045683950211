"""Make columns of results: runs of one lab with equal kernels and versions are pieces of one column.

So is a run of some of the lab's hosts only, which has fewer proxies or none. Pure but for `read_pieces`,
which finds and loads result.json files.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from mptcp_lab.inventory.engines import PROXIES
from mptcp_lab.results.result import Check, Result, ResultError, load


@dataclass(frozen=True)
class Piece:
    """One run and its folder, which has the evidence."""

    result: Result
    folder: Path

    @property
    def kernels(self) -> tuple[str, ...]:
        """Return the kernel releases of the hosts, each once."""
        return _values(self.result, "kernel")

    @property
    def builds(self) -> tuple[str, ...]:
        """Return the version lines of the kernels, each once; empty in results of schema 1."""
        return _values(self.result, "kernel_build")

    @cached_property
    def proxies(self) -> tuple[str, ...]:
        """Return a text per host with proxies, such as "proxy1: haproxy 3.0.11 preload"."""
        return tuple(filter(None, map(_describe_proxies, self.result.lab.get("hosts", ()))))

    @property
    def identity(self) -> tuple[object, ...]:
        """Return what every result has of what the pieces of one column have in common."""
        return (self.result.lab.get("name"), self.result.made_by.column, self.kernels)

    @property
    def details(self) -> tuple[object, ...]:
        """Return what they have in common besides: builds and engine; empty in results of schema 1."""
        return (self.builds, self.result.made_by.engine) if self.result.schema > 1 else ()


@dataclass(frozen=True)
class Column:
    """Runs that were made in pieces, oldest first, and the last verdict of each case with its run."""

    label: str
    pieces: tuple[Piece, ...]

    @property
    def last(self) -> Piece:
        """Return the newest piece."""
        return self.pieces[-1]

    @property
    def kernel(self) -> str:
        """Return the kernel releases of the hosts as a text."""
        return ", ".join(self.last.kernels)

    @property
    def proxies(self) -> tuple[str, ...]:
        """Return the proxies of the piece that has most of them; the others have no other ones."""
        return max((piece.proxies for piece in self.pieces), key=len)

    @cached_property
    def checks(self) -> Mapping[str, tuple[Check, Piece]]:
        """Return the deciding check of each case: the last one, if it was started, else an earlier one."""
        found: dict[str, tuple[Check, Piece]] = {}
        for piece in self.pieces:
            for check in piece.result.checks:
                if check.attempts or check.case not in found:
                    found[check.case] = (check, piece)
        return found


def read_pieces(paths: Iterable[Path]) -> tuple[list[Piece], list[str]]:
    """Return the runs in paths (results, folders of a run or of runs), and why others were left out.

    A result that is named itself has to be usable; one that is found in a folder is left out if it is not.

    Raises:
        ResultError: a named result cannot be used, or nothing was found.
    """
    pieces, left_out = [], []
    for path in paths:
        named = path if path.is_file() else path / "result.json"
        if named.exists() or not path.is_dir():
            pieces.append(Piece(load(path), named.parent))
            continue
        found = [each for each in sorted(path.glob("*/result.json")) if not each.parent.is_symlink()]
        if not found:
            raise ResultError(f"{path}: no result.json in it or in its folders; give a run's folder")
        for file in found:
            try:
                pieces.append(Piece(load(file), file.parent))
            except ResultError as error:
                left_out.append(str(error))
    if not pieces:
        raise ResultError(f"{left_out[0] if left_out else 'no result'}; no other result was found")
    return pieces, left_out


def make_columns(pieces: Sequence[Piece]) -> tuple[list[Column], list[str]]:
    """Return the columns, by kernel, and sentences about runs without any host that was reached."""
    reached = sorted((each for each in pieces if each.kernels), key=lambda each: each.result.finished)
    unreached = [each.result.run_id for each in pieces if not each.kernels]
    groups: dict[tuple[object, ...], list[Piece]] = {}
    for piece in reached:
        groups.setdefault((*piece.identity, _details_of(piece, reached)), []).append(piece)
    columns = [column for group in groups.values() for column in _split_by_proxies(group)]
    columns.sort(key=lambda column: (_sortable(column.kernel), column.last.result.finished))
    notes = [f"{run}: no host was reached; it is left out" for run in unreached]
    return _with_distinct_labels(columns), notes


def _details_of(piece: Piece, others: Sequence[Piece]) -> tuple[object, ...]:
    """Return the details of a piece; one without them has those of the only column that it can be of."""
    if piece.details:
        return piece.details
    known = {
        each.details
        for each in others
        if each.details and each.identity == piece.identity and each.proxies == piece.proxies
    }
    return known.pop() if len(known) == 1 else ()


def _split_by_proxies(group: Iterable[Piece]) -> Iterator[Column]:
    """Yield the columns of runs that are alike otherwise.

    A run of some of a lab's hosts has some of its proxies: it is a piece of the only column that has these.
    """
    pieces = list(group)
    kinds = {piece.proxies for piece in pieces}
    widest = [kind for kind in kinds if not any(set(kind) < set(other) for other in kinds)]
    found: dict[tuple[str, ...], list[Piece]] = {}
    for piece in pieces:
        fitting = [kind for kind in widest if set(piece.proxies) <= set(kind)]
        found.setdefault(fitting[0] if len(fitting) == 1 else piece.proxies, []).append(piece)
    for each in found.values():
        yield Column(_label(each[-1]), tuple(each))


def _values(result: Result, fact: str) -> tuple[str, ...]:
    found = (str(host["facts"].get(fact) or "") for host in result.lab.get("hosts", ()))
    return tuple(value for value in dict.fromkeys(found) if value)


def _describe_proxies(host: Mapping[str, object]) -> str:
    facts, services = host["facts"], host["services"]
    assert isinstance(facts, Mapping) and isinstance(services, Sequence)
    versions = facts.get("versions")
    texts = []
    for engine in PROXIES:
        methods = sorted({service["mptcp"] for service in services if service["engine"] == engine} - {"off"})
        version = versions.get(engine) if isinstance(versions, Mapping) else None
        if version:
            texts.append(" ".join([engine, str(version), *methods]))
    return f"{host['name']}: {', '.join(texts)}" if texts else ""


def _label(piece: Piece) -> str:
    return piece.result.made_by.column or ", ".join(piece.kernels)


def _with_distinct_labels(columns: Sequence[Column]) -> list[Column]:
    """Return the columns with a number behind each label that several have."""
    labels = [column.label for column in columns]
    seen: dict[str, int] = {}
    distinct = []
    for column in columns:
        seen[column.label] = number = seen.get(column.label, 0) + 1
        more = f" ({number})" if labels.count(column.label) > 1 else ""
        distinct.append(Column(column.label + more, column.pieces))
    return distinct


def _sortable(release: str) -> tuple[int, ...]:
    numbers = []
    for part in release.partition("-")[0].split("."):
        if not part.isdecimal():
            break
        numbers.append(int(part))
    return tuple(numbers)
