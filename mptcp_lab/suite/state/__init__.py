"""Compare hosts with what the inventory asks for: facts, units, settings, drift from the lock."""
