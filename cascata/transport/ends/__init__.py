"""What every channel between processes does at its two ends, whatever carries it."""
