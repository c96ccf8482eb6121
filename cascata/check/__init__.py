"""What can be said about a graph before it runs: deadlocks, and types that do not fit."""

from .deadlock import check, findings
from .types import assignable, describe

__all__ = ["assignable", "check", "describe", "findings"]
