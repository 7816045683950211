"""What RFC 8684 asks of a kernel, seen on an ordinary connection or by a peer of our own."""
