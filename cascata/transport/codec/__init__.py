"""Items to frames and back; what cannot travel, and where in an item it lies."""
