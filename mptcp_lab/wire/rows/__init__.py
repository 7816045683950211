"""The passive rows of the catalogue: what a capture alone says about RFC 8684's requirements."""

from mptcp_lab.wire.rows import addresses, data, ending, handshake, joins
from mptcp_lab.wire.rows.requirement import Observation, Outcome, Row, registered

__all__ = ["ROWS", "Observation", "Outcome", "Row"]

_MODULES = (handshake, joins, data, addresses, ending)

ROWS: tuple[Row, ...] = registered()
"""Every passive row, in the order of the catalogue."""
