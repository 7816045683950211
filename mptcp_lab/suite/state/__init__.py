"""Whether hosts have what the inventory asks for: facts, units, settings, drift from the lock."""
