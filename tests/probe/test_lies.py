"""Test a host that sends wrong answers: no verdict follows, nothing crashes, memory stays bounded."""

from __future__ import annotations

import json
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from mptcp_lab.errors import Inconclusive
from mptcp_lab.machines.lease import Lease
from mptcp_lab.plugin.attempt import classify
from mptcp_lab.probe import HostVanished, Nonsense, Probe
from mptcp_lab.probe.shapes import LINE_MAX_PARTS, Misshapen, decode_line
from mptcp_lab.results.verdict import Outcome
from tests.probe.hosts import Host, Keys

MEBIBYTE = 1 << 20
CLOCK = {"monotonic": 1.0, "realtime": 1.0, "spread": 0.0}


def answer(result: object) -> str:
    return json.dumps({"id": "@ID@", "ok": True, "result": result}).replace('"@ID@"', "@ID@")


#: What the host says to `clock`, and what is said of it.
ANSWERS = {
    "a number": ("7", "no object"),
    "nothing": ('{"id":@ID@}', "neither a result nor an error"),
    "no result": ('{"id":@ID@,"ok":true}', "neither a result nor an error"),
    "ok is text": ('{"id":@ID@,"ok":"yes","result":1}', "neither a result nor an error"),
    "no error": ('{"id":@ID@,"ok":false,"error":null}', "None is no mapping"),
    "error is text": ('{"id":@ID@,"ok":false,"error":"x"}', "'x' is no mapping"),
    "error without words": ('{"id":@ID@,"ok":false,"error":{"kind":"x"}}', "message: None is no text"),
    "errno is text": (
        '{"id":@ID@,"ok":false,"error":{"kind":"x","message":"x","errno":"x"}}',
        "errno: 'x' is no",
    ),
    "null": (answer(None), "None is no mapping"),
    "text": (answer("x"), "'x' is no mapping"),
    "a field is missing": (answer({"monotonic": 1.0, "realtime": 1.0}), "spread is missing"),
    "a field is new": (answer({**CLOCK, "more": 1}), "unknown: ['more']"),
    "a field is text": (answer({**CLOCK, "spread": "1"}), "spread: '1' is no finite number"),
    "a field is true": (answer({**CLOCK, "spread": True}), "spread: True is no finite number"),
    "NaN": (answer({**CLOCK, "spread": float("nan")}), "NaN is no number"),
    "infinite": (answer({**CLOCK, "spread": float("inf")}), "Infinity is no number"),
    "infinite by size": (answer({**CLOCK, "spread": 0.5}).replace("0.5", "1e999"), "no finite number"),
    "a huge whole number": (answer({**CLOCK, "spread": 0.5}).replace("0.5", "9" * 400), "no finite number"),
    "a longer number": (answer({**CLOCK, "spread": 0.5}).replace("0.5", "9" * 9999), "no JSON"),
    "deep": ("[" * 200_000, "nested too deeply"),
    "deep inside": ('{"id":@ID@,"ok":true,"result":' + '{"a":' * 100_000, "nested too deeply"),
    "no JSON": ("what?", "no JSON"),
    "not UTF-8": ("\udcff\udcfe", "no JSON"),
    "id is text": ('{"id":"@ID@","ok":true,"result":1}', "is no whole number"),
    "id is true": ('{"id":true,"ok":true,"result":1}', "is no whole number"),
    "an event of no kind": ('{"event":7}', "7 is no text"),
}


class Liar(Host):
    """A host whose SSH logins run liar.py, which sends wrong answers to the operations in a file."""

    def __init__(self, name: str, keys: Keys) -> None:
        super().__init__(name, keys)
        self.lies = self.folder / "lies.json"
        command = f"LIES={self.lies} {sys.executable} -I {Path(__file__).with_name('liar.py')}"
        with (self.folder / "sshd_config").open("a") as config:
            config.write(f"ForceCommand {command}\n")

    def lie(self, **lies: Any) -> None:
        self.lies.write_text(json.dumps(lies))


@pytest.fixture(scope="module")
def liar(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Liar]:
    host = Liar("prb-liar", Keys.make(tmp_path_factory.mktemp("liar")))
    try:
        yield host
    finally:
        host.remove()


def told(call: Callable[[], object]) -> str:
    """Return the message of the Nonsense that a call raises, and check that it is inconclusive."""
    with pytest.raises(Nonsense) as raised:
        call()
    assert isinstance(raised.value, Inconclusive)
    assert classify(raised.value, None) is Outcome.INCONCLUSIVE  # type: ignore[arg-type]
    return str(raised.value)


class Talk:
    """A probe on the liar, which is opened again after a wrong answer has ended it."""

    def __init__(self, liar: Liar) -> None:
        self.liar = liar
        self._probe: Probe | None = None

    def probe(self) -> Probe:
        self.liar.lie()
        try:
            assert self._probe is not None
            self._probe.call("ping")
        except (AssertionError, HostVanished):
            self.close()
            self._probe = Probe.open(self.liar.target())
        return self._probe

    def close(self) -> None:
        if self._probe is not None:
            self._probe.close()


@pytest.fixture(scope="module")
def talk(liar: Liar) -> Iterator[Talk]:
    opened = Talk(liar)
    yield opened
    opened.close()


@pytest.mark.parametrize("case", ANSWERS)
def test_nonsense_is_named(talk: Talk, case: str) -> None:
    lie, detail = ANSWERS[case]
    probe = talk.probe()
    talk.liar.lie(clock=lie)
    said = told(probe.clock)
    assert said.startswith("prb-liar answers nonsense to clock: ")
    assert detail in said
    assert len(said) < 400


def test_nonsense_at_the_greeting(liar: Liar) -> None:
    for lie in ("7", answer(None), answer({"host": "x"})):
        liar.lie(hello=lie)
        assert told(lambda: Probe.open(liar.target())).startswith("prb-liar answers nonsense to hello: ")


OPERATIONS: dict[str, Callable[[Probe], object]] = {
    "capabilities": Probe.capabilities,
    "connect": lambda probe: probe.connect("192.0.2.1", 1),
    "counters": Probe.counters,
    "endpoints": Probe.endpoints,
    "fault": lambda probe: probe.fault("limits", subflows=1),
    "faults": Probe.faults,
    "limits": Probe.limits,
    "listen": lambda probe: probe.listen("192.0.2.1", 1),
    "lease_take": lambda probe: Lease.take({"liar": probe}, "me", "run"),
    "many": lambda probe: probe.many("192.0.2.1", 1, b"", 1, 1).wait(),
    "network_state": Probe.network_state,
    "nics": Probe.nics,
    "origin": lambda probe: probe.origin("x").connections(),
    "read": lambda probe: probe.read("routes4"),
    "run": lambda probe: probe.run(["true"]),
    "sysctls": Probe.sysctls,
    "watch": Probe.watch_events,
    "capture": lambda probe: probe.capture(["lo"]),
}


@pytest.mark.parametrize("op", OPERATIONS)
@pytest.mark.parametrize("result", [17.5, [None], {"\x1b[31m": {"x": []}}], ids=["number", "list", "mapping"])
def test_every_operations_answer_is_checked(talk: Talk, op: str, result: object) -> None:
    if (op, type(result)) == ("network_state", dict) or (op, result) == ("lease_take", result):
        result = None if isinstance(result, dict) else result  # a mapping is a valid answer here
    probe = talk.probe()
    talk.liar.lie(**{op: answer(result)})
    assert told(lambda: OPERATIONS[op](probe)).startswith(f"prb-liar answers nonsense to {op}: ")


def test_a_refusal_without_its_facts_is_nonsense(liar: Liar) -> None:
    refusal = '{"id":@ID@,"ok":false,"error":{"kind":"%s","message":"x","errno":1}}'
    liar.lie(connect=refusal % "connect", lease_take=refusal % "lease-busy")
    with Probe.open(liar.target()) as probe:
        assert "nonsense to connect" in told(lambda: probe.connect("192.0.2.1", 1))
        assert "nonsense to lease_take" in told(lambda: Lease.take({"liar": probe}, "me", "run"))


def test_a_capture_that_unpacks_to_more_than_it_is(liar: Liar) -> None:
    bomb = "eJztwTEBAAAAwqD1T20MH6AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
    liar.lie(capture_stop=answer({"nbytes": 10, "devices": {}}), capture_fetch=answer(bomb))
    with Probe.open(liar.target()) as probe:
        capture = probe.capture(["lo"])
        assert "nonsense to capture_fetch" in told(capture.stop)
    liar.lie(capture_stop=answer({"nbytes": 1 << 60, "devices": {}}))
    with Probe.open(liar.target()) as probe:
        capture = probe.capture(["lo"])
        assert "nonsense to capture_stop" in told(capture.stop)


def test_a_line_without_end_takes_bounded_memory(liar: Liar) -> None:
    liar.lie(clock=["[", 1024, " " * MEBIBYTE])  # one gibibyte
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with Probe.open(liar.target()) as probe:
        assert "a line of more than 64 MiB" in told(probe.clock)
        with pytest.raises(HostVanished, match="it answered nonsense: a line of more than 64 MiB"):
            probe.counters()
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert grown < 300 * MEBIBYTE


def test_a_line_of_millions_of_values_is_not_parsed() -> None:
    with pytest.raises(Misshapen, match="more than 4000000 values"):
        decode_line(b'{"id":1,"ok":true,"result":[' + b"[]," * LINE_MAX_PARTS + b"0]}")


def test_calls_under_way_learn_it_at_once(liar: Liar) -> None:
    liar.lie(clock="what?")
    with Probe.open(liar.target()) as probe:
        waiting = probe.start("run", argv=["sleep", "60"], timeout=60)
        told(probe.clock)
        assert "nonsense to run" in told(lambda: waiting.result(30))


def test_a_watch_that_floods_is_ended(liar: Liar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mptcp_lab.probe.watching.MOST_EVENTS", 3)
    event = '{"event":"network","type":"link","at":1.0,"watch":"watch-1"}\n'
    liar.lie(clock=event * 10 + answer(CLOCK))
    with Probe.open(liar.target()) as probe:
        watch = probe.watch_events()
        assert "more than 3 events" in told(probe.clock)
        assert len(watch.all()) == 3
        with pytest.raises(HostVanished):
            watch.close()
