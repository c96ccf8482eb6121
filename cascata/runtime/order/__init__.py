"""Results in the order of their inputs, and what a call sends before it may leave."""
