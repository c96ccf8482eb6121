"""At which port of its machine a station listens: one that the system chooses, or the first free one of a range."""

from __future__ import annotations

import errno
import os
import socket
from typing import Final

from ...errors import CascataError

__all__ = ["ANY_PORT", "VARIABLE", "asked_for", "in_words", "listener", "ports_to_open"]

VARIABLE: Final = "CASCATA_PORTS"
"""The environment variable that names the range: `20000-20100`, both ends among them."""

ANY_PORT: Final = range(1)
"""Port 0: the system chooses."""

_LAST: Final = 65535

_TAKEN: Final = (errno.EADDRINUSE, errno.EACCES)
"""EACCES: a port that only others may use, as those below 1024, and on Windows those that the system keeps."""


def asked_for() -> range:
    """The ports that the program's environment asks for.

    Raises:
        CascataError: it is no range of ports.
    """
    asked = os.environ.get(VARIABLE, "").strip()
    if not asked:
        return ANY_PORT
    ends = [end.strip() for end in asked.split("-")]
    if len(ends) == 2 and all(end.isdecimal() and len(end) <= 5 for end in ends):
        first, last = map(int, ends)
        if 1 <= first <= last <= _LAST:
            return range(first, last + 1)
    raise CascataError(
        f"{VARIABLE}={asked!r} is no range of ports: it takes the first and the last port at which workers may listen, "
        f"from 1 to {_LAST}, as in {VARIABLE}=20000-20100. Unset it to have the system choose them"
    )


def in_words(ports: range) -> str:
    """A range as the variable has it."""
    return f"{VARIABLE}={ports[0]}-{ports[-1]}"


def ports_to_open(ports: range) -> str:
    """What to do where a port could not be reached."""
    if ports == ANY_PORT:
        return (
            f"the system chose the port: to have workers listen within a range that a firewall can let through, set "
            f"{VARIABLE}=20000-20100, or the like, where the program starts"
        )
    return f"a firewall between them has to let all ports of {in_words(ports)} through"


def listener(host: str, ports: range) -> socket.socket:
    """Listens at the first port that is free.

    Args:
        host: the address of this machine at which it listens.
        ports: at which it may.

    Raises:
        CascataError: all of them are taken.
        OSError: it cannot listen at that address, or the system is short of fds.
    """
    for port in ports:
        sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
        try:
            if os.name == "posix":
                # Connections of an earlier run, which the system remembers for a minute, do not take a port. Two that
                # are bound to one port at once are told apart by `listen`.
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((host, port))
            sock.listen(128)
            sock.setblocking(False)
        except OSError as problem:
            sock.close()
            if ports == ANY_PORT or problem.errno not in _TAKEN:
                raise
        except BaseException:
            sock.close()
            raise
        else:
            return sock
    raise CascataError(
        f"every port of {in_words(ports)} is taken at {host}: each worker of that machine needs one, and so does the "
        f"program whose graph has a Source or a Sink, of all runs that go on at once. Give a wider range"
    )
