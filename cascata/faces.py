"""Which modules are public, and how what is defined elsewhere comes to show one of them as its home.

Programs import from public modules only; all others change without notice. What a public module offers is defined in a
module of its own, further down, and is marked there:

    @public                      # help, tracebacks and pickles name it `cascata.Channel` from now on
    class Channel: ...           # of cascata/channels.py
"""

from __future__ import annotations

from typing import Any, Final, TypeVar, get_type_hints

__all__ = ["PUBLIC", "face_of", "public"]

T = TypeVar("T")

PUBLIC: Final = (
    "cascata",
    "cascata.components",
    "cascata.errors",
    "cascata.live",
    "cascata.log",
    "cascata.options",
    "cascata.workflow",
)
"""The public modules. docs/public.md lists what each of them offers."""


def face_of(module: str) -> str:
    """The public module that shows what a module of cascata defines: the nearest above it. Others are their own."""
    if not module.startswith("cascata."):
        return module
    while module not in PUBLIC:
        module = module.rpartition(".")[0]
    return module


def public(thing: T) -> T:
    """Marks a class or a function as one that its public module offers under its own name.

    Pickles find it there, whatever becomes of the module that defines it; `inspect.getsource` of a class does not.
    """
    shown: Any = thing
    if "__dataclass_fields__" in vars(shown):  # its annotations are texts, looked up where it seems to come from
        shown.__annotations__ = get_type_hints(shown)
    shown.__module__ = face_of(shown.__module__)
    return thing
