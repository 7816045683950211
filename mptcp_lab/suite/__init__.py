"""What the checks stand on: a session with the lab's machines, traffic, expectations, packets."""
