"""Show results of any labs on one page: claims as rows, kernels and proxy versions as columns."""
