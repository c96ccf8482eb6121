"""What watches over a run: the supervisor, what it is told, and what it has others do."""
