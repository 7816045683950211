"""Requirements of RFC 8684 on a kernel, checked with ordinary traffic or with a user-space peer."""
