"""Only as many workers have labs as the machine allows, and every file is given to one of them."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from tests.scheduling import LabsOnFewWorkers, count_labs

LABS = [f"tests/e2e/test_{n}.py" for n in range(4)]
OTHERS = [f"tests/wire/test_{n}.py" for n in range(3)]
TESTS_OF_A_FILE = 4


class Worker:
    """A worker, as far as the scheduler uses it. As in xdist, the last test waits for another one."""

    def __init__(self) -> None:
        self.given: list[int] = []
        self.done = 0
        self.shutting_down = False
        self.gateway = SimpleNamespace(id="gw")

    def send_runtest_some(self, indices: list[int]) -> None:
        assert not self.shutting_down, "a file for a worker that ends"
        self.given += indices

    def shutdown(self) -> None:
        self.shutting_down = True

    def can_run(self) -> bool:
        return len(self.given) - self.done > (0 if self.shutting_down else 1)


def start(files: list[str], workers: int, labs: int = 2) -> tuple[LabsOnFewWorkers, list[Worker], list[str]]:
    tests = [f"{name}::test_{n}" for name in files for n in range(TESTS_OF_A_FILE)]
    option = SimpleNamespace(loadscopereorder=False, tx=["popen"] * workers, numprocesses=workers)
    config = SimpleNamespace(option=option, getvalue=lambda name: ["popen"] * workers)
    scheduler = LabsOnFewWorkers(config, labs=labs)
    nodes = [Worker() for _ in range(workers)]
    for node in nodes:
        scheduler.add_node(node)
    for node in nodes:
        scheduler.add_node_collection(node, tests)
    scheduler.schedule()
    return scheduler, nodes, tests


def run(scheduler: LabsOnFewWorkers, nodes: list[Worker]) -> None:
    """Let the workers run one test each in turn until none can go on."""
    while running := [node for node in nodes if node.can_run()]:
        for node in running:
            index = node.given[node.done]
            node.done += 1
            scheduler.mark_test_complete(node, index)


def files_of(node: Worker, tests: list[str]) -> set[str]:
    return {tests[index].partition("::")[0] for index in node.given}


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize("files", [[*LABS, *OTHERS], [*OTHERS, *LABS], LABS, OTHERS, LABS[:1]], ids=len)
def test_every_test_runs_once_and_few_workers_have_labs(workers: int, files: list[str]) -> None:
    scheduler, nodes, tests = start(files, workers)
    run(scheduler, nodes)
    assert sorted(index for node in nodes for index in node.given) == list(range(len(tests)))
    assert all(node.done == len(node.given) for node in nodes)
    assert len([node for node in nodes if files_of(node, tests) & set(LABS)]) <= 2


def test_a_worker_without_a_lab_begins_with_the_other_files() -> None:
    _, nodes, tests = start([*LABS, *OTHERS], 3)
    assert [files_of(node, tests) <= set(LABS) for node in nodes] == [True, True, False]


def test_a_worker_in_the_place_of_one_that_crashed_has_its_lab() -> None:
    scheduler, nodes, tests = start([*LABS, *OTHERS], 3)
    dead = nodes.pop(0)
    assert scheduler.remove_node(dead) == tests[0]
    nodes.append(Worker())
    scheduler.add_node(nodes[-1])
    scheduler.add_node_collection(nodes[-1], tests)
    scheduler.schedule()
    run(scheduler, nodes)
    assert sorted(index for node in nodes for index in node.given) == list(range(len(tests)))
    assert len([node for node in nodes if files_of(node, tests) & set(LABS)]) == 2


def test_the_kernels_default_is_enough_for_three_labs() -> None:
    assert [count_labs(instances) for instances in (32, 100, 127, 128, 1024)] == [1, 2, 2, 3, 3]


def test_the_tests_of_the_probe_run_one_after_the_other() -> None:
    probe = [f"tests/probe/test_{n}.py" for n in range(3)]
    scheduler, nodes, tests = start([*probe, *OTHERS], 3)
    run(scheduler, nodes)
    assert sorted(index for node in nodes for index in node.given) == list(range(len(tests)))
    assert len([node for node in nodes if files_of(node, tests) & set(probe)]) == 1
