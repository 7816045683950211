"""A pytest plugin that gives the attacker of the SECURITY checks what a defence should withhold from it.

`configured.suite("-p", "tests.e2e.armed_attacker")` runs the checks with it. The lab and the checks are as
ever; only the attacks succeed, so that a check which does not notice success would pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

from mptcp_lab.machines.session import Machine
from mptcp_lab.suite.rfc8684.peer_subflow import option_of
from mptcp_lab.suite.security import access_rules, joins, malformed, middle, one_path, options, third_party
from mptcp_lab.suite.security.forging import Forger
from mptcp_lab.suite.security.one_path import Attack
from mptcp_lab.suite.security.options import Forged
from mptcp_lab.suite.security.overhearing import overheard_keys
from mptcp_lab.suite.traffic import Target
from mptcp_lab.wire import MpJoinSynAck, RemoveAddr, Segment
from mptcp_lab.wire.endpoint import Endpoint
from mptcp_lab.wire.packet import ACK, SYN

Harm = Callable[[Attack], AbstractContextManager[None]]
real_checksums, real_most_joins = middle.checksums, third_party.most_joins
real_attack_listener, real_denying = malformed.attack_listener, access_rules.denying_address
#: Kills one worker process of nginx, which its master process replaces.
KILL_WORKER = "kill -KILL $(cut -d' ' -f1 /proc/$(systemctl show -P MainPID nginx)/task/*/children)"


def join_with_keys(forger: Forger, target: Target, overheard: list[Segment]) -> None:
    """Join with the right HMAC, in place of a replayed one."""
    keys = overheard_keys(overheard)
    endpoint, leg = Endpoint(keys.client, keys.server, keys.flags), joins._leg(forger, target)
    forger.sends(leg.segment(SYN, endpoint.join(1, 1)))
    answer = forger.wire.next(lambda segment: bool(segment.flags & SYN), "SYN/ACK of the join")
    leg.take(answer)
    forger.sends(leg.segment(ACK, endpoint.join_proof(1, option_of(answer, MpJoinSynAck))))
    forger.wire.next(lambda segment: not segment.flags & SYN, "fourth packet of the join")


def also_removing(harm: Harm) -> Harm:
    """Return a harm after which every subflow is closed too."""

    @contextmanager
    def both(attack: Attack) -> Iterator[None]:
        with harm(attack):
            one_path.BEYOND["REMOVE_ADDR"](attack)
            yield

    return both


def inverted_checksums(client: Machine, *, asked: bool) -> AbstractContextManager[object]:
    """Ask for checksums where the check does not, and the other way round."""
    return real_checksums(client, asked=not asked)


@contextmanager
def filtering(target: Target, denied: str) -> Iterator[access_rules.Ruled]:
    """Run the program with its rule and, before haproxy, a packet filter with the same rule."""
    with real_denying(target, denied) as ruled:
        if target.service.engine == "haproxy":
            with target.machine.probe.fault("drop", source=denied):
                yield ruled
        else:
            yield ruled


def crashing_worker(attacker: Machine, forger: Forger, target: Target) -> int:
    """Send the malformed packets, and end a worker process as a crash would."""
    sent = real_attack_listener(attacker, forger, target)
    target.machine.probe.run(["sh", "-c", KILL_WORKER])
    return sent


malformed.attack_listener = crashing_worker
access_rules.CONFIGURATIONS["nginx"] = access_rules.CONFIGURATIONS["nginx"].replace(
    "deny {denied}", "allow all"
)
access_rules.denying_address = filtering
joins.WITHOUT_KEYS = (joins.guess_tokens, join_with_keys)
joins.SETTINGS["none"] = (joins.SETTINGS["firewall"][0], False)
joins.SETTINGS["limits"] = (joins.SETTINGS["checksums"][0], True)
options.FAR_AHEAD = 0
options.FORGED["ADD_ADDR"] = Forged(option=lambda _: RemoveAddr(options.ALL_IDS))
one_path.HARMS["drop"] = also_removing(one_path.HARMS["drop"])
one_path.checksums = inverted_checksums
one_path.SHOWS_WITHIN_SECONDS = 1.5
options.END_AFTER_CHUNKS = 1_000_000
third_party.most_joins = lambda client: real_most_joins(client) // client.probe.limits().add_addr_accepted
