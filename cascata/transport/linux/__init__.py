"""Carriers on Linux: rings in shared memory, sockets, memory files; and the ends that are made of them."""
