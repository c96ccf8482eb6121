"""What a task is to the nodes that do it: `do`, with `setup` before the first batch and `teardown` after the last."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

__all__ = ["TaskBase"]


class TaskBase(ABC):
    """A task without `map`, which runs a DAG of its own: see `Task`."""

    @abstractmethod
    def do(self, *args: Any, **kwargs: Any) -> Any:
        """Works on one batch. May be an `async def`.

        Args:
            *args: the batch; with several inputs one argument for each, in the order of `inputs`.
            **kwargs: `task_kwargs`.

        Returns:
            The batch for the tasks and sinks behind: of any type, and not necessarily as long.
        """

    def setup(self) -> None:  # noqa: B027  # to be overridden, or not
        """Called in the worker before the first batch, once for each member of the node."""

    def teardown(self) -> None:  # noqa: B027  # ...
        """Called in the worker at the end, whatever ended it, once for each `setup` that succeeded."""
