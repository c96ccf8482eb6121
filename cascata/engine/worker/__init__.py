"""The process of a worker, from its first line to its last."""
