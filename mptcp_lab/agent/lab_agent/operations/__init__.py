"""The operations of the probe, by what they are about: methods op_* of classes that the probe inherits."""
