"""What the program and its workers say to each other."""
