"""What crosses the border of a process: frames, credits, shared channels."""
