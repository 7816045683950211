"""The passive rows of the catalogue: requirements of RFC 8684 that a capture alone can decide."""

from mptcp_lab.wire.rows import addresses, data, ending, handshake, joins
from mptcp_lab.wire.rows.requirement import Observation, Outcome, Row, registered_rows

__all__ = ["ROWS", "Observation", "Outcome", "Row"]

_MODULES = (handshake, joins, data, addresses, ending)

#: Every passive row, in the order of the catalogue.
ROWS: tuple[Row, ...] = registered_rows()
