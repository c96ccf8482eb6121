"""Channels inside one process: the contract that all kinds keep, in one loop, and between threads."""
