"""What cascata and its peers take: see README.md."""
