"""Columns: the embedded lab inside one virtual machine, which boots any kernel (docs/kernels.md)."""
