"""How both ends of a connection prove that they know a run's secret, without saying it.

    who connects                                        who accepts
      hello: magic, index, nonce          ──────────>
                                          <──────────   hello: magic, index, nonce; proof
      proof                               ──────────>
      frames                              <─────────>   frames

A proof is an HMAC-SHA256, keyed with the secret, of the role of who gives it and both hellos (challenge and
response, after ISO/IEC 9798-4). Nonces are new each time, so a recorded handshake is worth nothing; the role keeps a
proof from being sent back to who gave it. Messages have fixed sizes: a stranger can neither make this end wait for more
nor keep more than that in its memory. What follows is not encrypted: the secret keeps strangers out, not those who read
or change what goes through the network.
"""

from __future__ import annotations

import hmac
import os
import struct
from typing import Final

__all__ = ["Handshake", "HandshakeError", "new_secret"]

MAGIC: Final = b"cascata1"
HELLO: Final = struct.Struct("<8sI32s")
PROOF: Final = 32


class HandshakeError(Exception):
    """The other end has not proved what it must."""


def new_secret() -> bytes:
    """A secret for one run."""
    return os.urandom(32)


class Handshake:
    """One end's part, without any sockets: feed it what comes, send what it answers.

    Args:
        secret: of the run.
        me: index of this worker.
        peer: index of the worker that this one connects to; None for the end that accepts.

    Attributes:
        peer: index of the other worker: proved when `done`.
        done: whether the other end has proved that it knows the secret.
        wants: bytes to feed next.
        opening: what is sent first; nothing from who accepts.
    """

    def __init__(self, secret: bytes, me: int, peer: int | None = None) -> None:
        self._secret = secret
        self._hello = HELLO.pack(MAGIC, me, os.urandom(32))
        self._connects = peer is not None
        self._said = b""
        self.peer = -1 if peer is None else peer
        self.done = False
        self.wants = HELLO.size + (PROOF if self._connects else 0)
        self.opening = self._hello if self._connects else b""

    def feed(self, data: bytes) -> bytes:
        """Takes `wants` bytes.

        Returns:
            What to send.

        Raises:
            HandshakeError: the other end is no worker of this run.
        """
        if self._said:
            self._check(b"connects", data)
            return self._finish()
        hello, proof = data[: HELLO.size], data[HELLO.size :]
        magic, index, _ = HELLO.unpack(hello)
        if magic != MAGIC:
            raise HandshakeError("it speaks another language")
        if not self._connects:
            self.peer = index
            self._said = hello + self._hello
            self.wants = PROOF
            return self._hello + self._proof(b"accepts")
        self._said = self._hello + hello
        self._check(b"accepts", proof)
        if index != self.peer:
            raise HandshakeError(f"it is worker {index}, not {self.peer}")
        self._finish()
        return self._proof(b"connects")

    def _finish(self) -> bytes:
        self.done = True
        self.wants = 0
        return b""

    def _proof(self, role: bytes) -> bytes:
        return hmac.digest(self._secret, role + self._said, "sha256")

    def _check(self, role: bytes, proof: bytes) -> None:
        if not hmac.compare_digest(self._proof(role), proof):
            raise HandshakeError("it does not know the secret of this run")
