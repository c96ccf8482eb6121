"""`live.call`: which items belong to which call, and whether each caller can get its own answer."""
