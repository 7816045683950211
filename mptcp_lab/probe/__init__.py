"""The probe: one process per host that opens sockets, moves data, reads the kernel, captures, sets faults."""

from mptcp_lab.probe.absent import Absent, Readings
from mptcp_lab.probe.api import Origin, Probe
from mptcp_lab.probe.client import Deadline, HostVanished, Nonsense, Pending, ProbeError
from mptcp_lab.probe.endpoints import EndpointControl, NewEndpoint
from mptcp_lab.probe.facts import (
    IPPROTO_MPTCP,
    IPPROTO_TCP,
    Address,
    Capability,
    Clock,
    Counters,
    Endpoint,
    Limits,
    NicBytes,
    OriginRecord,
    RunResult,
    SocketFacts,
    Subflow,
    Timeline,
    TransferResult,
)
from mptcp_lab.probe.faults import Fault, FaultExpired, NoLease
from mptcp_lab.probe.state import NetworkState, changes
from mptcp_lab.probe.steering import Steering
from mptcp_lab.probe.streams import (
    Batch,
    ConnectFailed,
    Listener,
    Readable,
    RunningBatch,
    Stream,
    Transfer,
    TransferFailed,
)
from mptcp_lab.probe.waiting import NeverHappened, eventually
from mptcp_lab.probe.watching import Capture, EventWatch

__all__ = [
    "IPPROTO_MPTCP",
    "IPPROTO_TCP",
    "Absent",
    "Address",
    "Batch",
    "Capability",
    "Capture",
    "Clock",
    "ConnectFailed",
    "Counters",
    "Deadline",
    "Endpoint",
    "EndpointControl",
    "EventWatch",
    "Fault",
    "FaultExpired",
    "HostVanished",
    "Limits",
    "Listener",
    "NetworkState",
    "NeverHappened",
    "NewEndpoint",
    "NicBytes",
    "NoLease",
    "Nonsense",
    "Origin",
    "OriginRecord",
    "Pending",
    "Probe",
    "ProbeError",
    "Readable",
    "Readings",
    "RunResult",
    "RunningBatch",
    "SocketFacts",
    "Steering",
    "Stream",
    "Subflow",
    "Timeline",
    "Transfer",
    "TransferFailed",
    "TransferResult",
    "changes",
    "eventually",
]
