"""Find what checks need in the inventory; each function raises `Unsupported` where it is not there."""
