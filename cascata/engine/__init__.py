"""Engines: what runs the workers of a plan, and watches over them."""
