"""What one sees of a run: its log, its counters, its report."""
