"""What a worker is told first, whatever it runs on."""

from __future__ import annotations

from ...model import GraphSpec
from ...observe.board import BoardShape
from ...records import dataclass
from ...runtime.restart import Life

__all__ = ["Setup", "modules_of"]


@dataclass(slots=True)
class Setup:
    """What a worker is told first."""

    index: int
    nodes: tuple[str, ...]
    crossing: frozenset[int]
    shape: BoardShape
    skip_errors: bool
    grace: float
    debug: bool
    calls: bool
    log_level: int
    authkeys: dict[str, bytes]
    environment: dict[str, str]
    thread_cap: int
    modules: dict[str, tuple[str, ...]]
    """Module -> the nodes whose components are of it, wherever they run: each worker imports all of them."""
    begun_by: frozenset[str]
    """The modules that were being imported when the run began: see `run_at_import`."""
    death: bytes | None
    """Why this worker was started again, pickled; None in its first life."""

    @property
    def life(self) -> Life | None:
        """The life of its node, if that starts again when the worker dies."""
        return None


def modules_of(spec: GraphSpec) -> dict[str, tuple[str, ...]]:
    """Module -> the nodes whose components are of it."""
    modules: dict[str, tuple[str, ...]] = {}
    for node in spec.nodes.values():
        module = node.component.module
        modules[module] = (*modules.get(module, ()), node.name)
    return modules
