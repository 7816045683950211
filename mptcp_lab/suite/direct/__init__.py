"""Direct connections: full mesh, shares of a schedule, spare NICs, full-sized packets, the examples."""
