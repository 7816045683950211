"""What the checks share: traffic, targets, expectations, packets, traces; a folder for each family's own."""
