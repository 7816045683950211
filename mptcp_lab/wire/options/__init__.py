"""The MPTCP options of RFC 8684 as frozen dataclasses, one per form on the wire.

Each class decodes and encodes one form; `mptcp_lab.wire.codec` selects the class. The name of a class ends in
V0 if its form is that of version 0 (RFC 6824) and differs on the wire. The files are named after the parts of
a connection, as those of `mptcp_lab/wire/rows/` are.
"""
