"""Attack connections from a host of group `attackers`, bounded in packets and seconds."""
