"""The parts of the program that runs on lab hosts. All times are the host's CLOCK_MONOTONIC, in seconds.

From the bottom to the top: `basics`, `files`, `tools`, `data`, `netlink`; what is read (`socket_facts`,
`host`, `capabilities`, `events`, `capture`); what is opened (`sockets`, `streams`, `connections`, `many`,
`relay`); what is changed (`path_manager`, `faults` with their plans in `fault_*`, `keeper`, `lease`); the two
services (`origin` with `greeting` and `origin_connection`, and `probe`); `command`.
"""
