"""What runs inside a worker: nodes, their calls, their state."""
