"""The inventory, the only source of truth about a lab: `load` reads and validates it."""

from mptcp_lab.inventory.errors import InventoryError
from mptcp_lab.inventory.load import load, resolve
from mptcp_lab.inventory.model import Address, Backend, Host, Lab, Nic, Segment, Service

__all__ = [
    "Address",
    "Backend",
    "Host",
    "InventoryError",
    "Lab",
    "Nic",
    "Segment",
    "Service",
    "load",
    "resolve",
]
