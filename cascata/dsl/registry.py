"""Every component class by module and name."""

from __future__ import annotations

import weakref
from collections.abc import Iterator, Mapping
from typing import Final

from ..options import suggestion
from .component import Component, signature_text

__all__ = ["Registry", "registry"]


class Registry(Mapping[str, type[Component]]):
    """Component classes under `"module.name"`; `print(registry)` shows them with their ports.

    `registry["package.module.Name"]`, `registry["package.module", "Name"]` and, while only one module has
    that name, `registry["Name"]` give the class, whose `spec` holds ports, types, capacities and defaults.
    A definition replaces an earlier one of the same place, as when a notebook's cell runs again. A class
    that nothing refers to any more is gone from here too.
    """

    def __init__(self) -> None:
        self._classes: weakref.WeakValueDictionary[str, type[Component]] = weakref.WeakValueDictionary()

    def add(self, component: type[Component]) -> None:
        """Notes a component class; an earlier one of the same module and name is replaced."""
        self._classes[f"{component.spec.module}.{component.spec.qualname}"] = component

    def __getitem__(self, name: str | tuple[str, str]) -> type[Component]:
        """The class. Raises `KeyError` with the nearest name."""
        key = ".".join(name) if isinstance(name, tuple) else name
        found = self._classes.get(key)
        if found is not None:
            return found
        named = [full for full, each in self._classes.items() if each.spec.qualname == key]
        if len(named) == 1:
            return self._classes[named[0]]
        if named:
            raise KeyError(f"{key!r} is in several modules: {', '.join(sorted(named))}")
        known = {*self._classes, *(each.spec.qualname for each in self._classes.values())}
        raise KeyError(f"no component {key!r}.{suggestion(key, sorted(known))}")

    def __contains__(self, name: object) -> bool:
        try:
            self[name]  # type: ignore[index]  # anything may be asked for; what is no name is not found
        except (KeyError, TypeError):
            return False
        return True

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._classes.keys()))

    def __len__(self) -> int:
        return len(self._classes)

    def __repr__(self) -> str:
        lines = [f"Registry of {len(self)} components"]
        lines += [f"  {name}{signature_text(self._classes[name].spec)}" for name in self]
        return "\n".join(lines)


registry: Final = Registry()
