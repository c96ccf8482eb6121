"""What a runner gets for its ports, and what becomes of what it sends."""
