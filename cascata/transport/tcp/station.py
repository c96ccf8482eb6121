"""The portable transport: a worker's side of its connections to other workers. Sockets and threads, nothing else.

    worker 0                                                 worker 1
      writers, readers ─┐                              ┌─ writers, readers       (each in the loop of its nodes)
      brokers ──────────┤                              ├─ brokers                (channels whose home is here)
                     Station ── one TCP connection ── Station                    (a thread with a loop of its own)

One connection for each pair of workers that share a channel; all their edges go over it, as frames
(`transport.tcp.stream_frames`). Each channel has a home, the worker of its first reader, whose `Broker` keeps its
items and its credits. Frames are read in a thread of their own: a component that computes without letting its loop
turn holds up nobody but itself. Both ends of a connection prove that they know the run's secret
(`transport.tcp.handshake`) before the first frame is read. Where no connection can be made, the run ends with an error.

How an engine wires its workers:

1. It makes a secret (`new_secret`), and hands it to each worker by a way of its own that nobody else can read.
2. Each worker makes `Station(index, secret, host)`, with the address of its machine that the others reach it at, and
   tells the engine `station.address`. It lets other workers in from then on: what they send waits for step 3.
3. The engine tells every worker everybody's address. When the worker has its graph, it makes, inside the loop of its
   nodes, `ends = BrokeredEnds(station, spec, plan, board, refused)` (`transport.tcp.ends`), which are the `ends` of
   `runtime.worker.Worker`, makes that `Worker`, and only then calls `station.open(addresses)`. Which of two workers
   connects, they know.
4. What the supervisor instructs goes to the worker that is the channel's home (`homes.home_of`): `EndWriting` is
   `station.end_writing(channel)`, `EndReading` is `station.end_reading(channel)`, `Grow` is
   `station.grow(channel, extra)`, from any thread of that worker.
5. When `Worker.run()` has returned, and the worker was not cancelled, it awaits `station.served()`: others may still
   need the channels whose home is here. `station.unread()` is then what was left in them. In any case it calls
   `station.close()` last.
6. `lost(peer, why)` is called, in the I/O thread, when a connection breaks without a goodbye, and
   `unreached(peer, why)` when none has come about within `CONNECT_S`. The ends that used it do not move any more, since
   a broken connection must look neither like the end of a stream nor like a fault of a component. Whoever watches over
   the run ends it: the death of a worker is told as that; when no worker has died, the network has failed.

A worker that may start again (`BrokeredEnds` says which) keeps no channel, and connects to those that do. Its next life
is a new station with the same index, which nobody but itself needs to be told of: when it connects, what there was of
the life before is over.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from collections.abc import Callable, Coroutine, Mapping
from concurrent.futures import Future
from contextlib import suppress
from typing import Any, Final, Protocol

from ..ends.unread import Unread
from ..shared import after_fork
from .broker import Broker
from .buffer_pool import BufferPool
from .handshake import Handshake, HandshakeError
from .peer_link import Connection, Link
from .ports import ANY_PORT, listener
from .stream_frames import Frame, Kind, WireError

__all__ = ["Address", "End", "Station"]

Address = tuple[str, int]
"""Host and port."""

HANDSHAKE_S: Final = 5.0
"""Seconds that a stranger has to prove itself."""

MOST_STRANGERS: Final = 64
"""Connections that have not proved themselves yet, at most: the oldest is dropped for a new one."""

CONNECT_S: Final = 20.0
"""Seconds in which a connection is tried again and again. The other end listens since before its address was told."""

PROOF_S: Final = 60.0
"""Seconds that a connection may take to prove itself to the worker that made it. They are many since the I/O thread at
the other end may wait for an import there that keeps the interpreter to itself."""

LINGER_S: Final = 1.0
"""Seconds that the other ends have to close their side after a goodbye."""

_RETRY_S: Final = 0.05

_KEEP_ALIVE: Final = {"TCP_KEEPIDLE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""A machine that is gone without a word is noticed within these seconds."""

_TO_HOME: Final = frozenset(
    {Kind.WANT, Kind.BACK, Kind.CLOSE, Kind.GIVE, Kind.ASK, Kind.RETURN, Kind.DONE, Kind.HOLD, Kind.OVER}
    | {Kind.OPENING, Kind.OPENED, Kind.AGAIN, Kind.REOPEN, Kind.SYNC}
)
_OF_A_CHANNEL: Final = frozenset(  # `id` is a channel's
    {Kind.GIVE, Kind.ASK, Kind.END, Kind.DONE, Kind.LEFT, Kind.HOLD, Kind.HELD, Kind.OVER, Kind.AGAIN, Kind.ACCOUNT}
)


class End(Protocol):
    """A writer or a reader of this worker."""

    def hear(self, frame: Frame) -> None:
        """Takes a frame, in any thread. Must neither block nor send."""


class Tell(Protocol):
    """Sends frames to a channel's home, together."""

    def __call__(self, *frames: Frame) -> None: ...


class Station:
    """One worker's side of the portable transport. See the top of this module.

    Args:
        me: index of this worker.
        secret: of the run.
        host: the address of this machine that the other workers reach it at; nothing else is listened on.
        ports: at which it may listen.
        lost: called with the index of a worker and a reason, when the connection to it broke.
        unreached: called with the index of a worker, and with what was tried for how long, when there is no connection
            to it.
        refused: called once, with a text for the log, when a stranger has been refused.

    Attributes:
        address: where the others connect to.

    Raises:
        CascataError: all these ports are taken.
        OSError: it cannot listen there, or the system is short of fds.
    """

    def __init__(
        self,
        me: int,
        secret: bytes,
        host: str = "127.0.0.1",
        *,
        ports: range = ANY_PORT,
        lost: Callable[[int, str], None],
        unreached: Callable[[int, str], None],
        refused: Callable[[str], None],
    ) -> None:
        self.me = me
        self._secret = secret
        self._host = host
        self._tell_lost = lost
        self._tell_unreached = unreached
        self._tell_refused = refused
        self._early: dict[Connection, list[Frame]] | None = {}  # proven before this station was open; None: it is
        self._strangers: dict[Connection, asyncio.TimerHandle] = {}
        self._refused = 0
        self._pool = BufferPool()
        self._links: dict[int, Link] = {}
        self._returning: frozenset[int] = frozenset()
        self._brokers: dict[int, Broker] = {}
        self._channels: dict[int, int] = {}  # edge -> channel
        self._writers: dict[int, End] = {}
        self._readers: dict[int, End] = {}
        self._lock = threading.RLock()  # guards the brokers
        self._leaving = self._closing = False
        self._served: Future[None] = Future()
        self._tasks: set[asyncio.Task[None]] = set()
        self._listener = listener(host, ports)
        try:
            # Proactor: what asyncio has by default on Windows. Elsewhere no policy of the program's is to matter.
            self._loop = asyncio.new_event_loop() if sys.platform == "win32" else asyncio.SelectorEventLoop()
        except BaseException:
            self._listener.close()
            raise
        after_fork.private(self._listener.fileno())
        self.address: Address = self._listener.getsockname()[:2]
        self._cut = asyncio.Event()
        self._loop.call_soon(lambda: self._spawn(self._accept()))
        self._thread = threading.Thread(target=self._loop.run_forever, name="cascata-io", daemon=True)
        self._thread.start()

    # -- wiring

    def expect_again(self, workers: frozenset[int]) -> None:
        """Tells which workers start again when they die. They are the ones who connect; first of all."""
        self._returning = workers

    def keep(self, channel: int, capacity: int, writers: Mapping[int, int], readers: list[int]) -> None:
        """Makes this worker the home of a channel. Args: as those of `Broker`."""
        self._brokers[channel] = Broker(channel, capacity, writers, readers, self._post, self._returning)

    def add_writer(self, edge: int, channel: int, home: int, end: End) -> Tell:
        """Adds the writer of an edge; returns what sends its frames to the channel's home."""
        self._writers[edge] = end
        self._channels[edge] = channel
        return self._way(channel, home)

    def add_reader(self, channel: int, home: int, end: End) -> Tell:
        """Adds this worker's reader of a channel; returns what sends its frames to the channel's home."""
        self._readers[channel] = end
        return self._way(channel, home)

    def _way(self, channel: int, home: int) -> Tell:
        if home != self.me:
            return self._link(home).send
        broker, lock, me = self._brokers[channel], self._lock, self.me

        def handle(*frames: Frame) -> None:
            with lock:
                for frame in frames:
                    broker.handle(me, frame)
            if self._leaving:
                self._look_whether_served()

        return handle

    def knows(self, edges: Mapping[int, int], peers: set[int]) -> None:
        """Tells edge -> channel of all that may come here, and which workers there will be connections to."""
        self._channels.update(edges)
        for peer in peers:
            self._link(peer)

    def _link(self, peer: int) -> Link:
        link = self._links.get(peer)
        if link is None:
            link = self._links[peer] = Link(peer, self._loop)
        return link

    def open(self, addresses: Mapping[int, Address]) -> None:
        """Connects to the other workers. From now on frames come.

        Args:
            addresses: of the others' stations.
        """

        def begin() -> None:
            early, self._early = self._early or {}, None
            for connection, frames in early.items():
                self._admit(connection)
                for frame in frames:
                    self._received(connection, frame)
                if connection.is_lost:
                    self._lost(connection, connection.why)
            for peer in self._links:
                if self._connects(peer) and peer in addresses:
                    self._spawn(self._connect(peer, addresses[peer]))

        self._loop.call_soon_threadsafe(begin)

    def _connects(self, peer: int) -> bool:
        """Which of two connects: one that may start again, else the later one."""
        if self.me in self._returning:
            return True
        return peer < self.me and peer not in self._returning

    # -- what the supervisor instructs, in the worker that is the home

    def end_writing(self, channel: int) -> None:
        """No writer of a channel is left: its readers get what there is, then the end. From any thread."""
        with self._lock:
            self._brokers[channel].end_writing()
        if self._leaving:
            self._look_whether_served()

    def end_reading(self, channel: int) -> None:
        """No reader of a channel is left: its writers are refused. From any thread."""
        with self._lock:
            self._brokers[channel].end_reading()
        if self._leaving:
            self._look_whether_served()

    def grow(self, channel: int, extra: int) -> None:
        """Gives a channel room for more items. From any thread."""
        with self._lock:
            self._brokers[channel].grow(extra)

    def unread(self) -> dict[int, Unread]:
        """What nobody took of the edges of the channels kept here."""
        with self._lock:
            return {edge: left for broker in self._brokers.values() for edge, left in broker.unread().items()}

    # -- frames

    def _post(self, worker: int, frame: Frame) -> None:
        """To an end, here or elsewhere. Under the lock: so what a broker says arrives in that order."""
        if worker == self.me:
            self._hear(frame)
        else:
            self._links[worker].send(frame)

    def _hear(self, frame: Frame) -> None:
        kind, ident = frame.kind, frame.id
        if kind == Kind.DATA:
            end = self._readers.get(self._channels[ident])
        elif kind in _OF_A_CHANNEL:
            end = self._readers.pop(ident, None) if kind == Kind.LEFT else self._readers.get(ident)
        else:
            end = self._writers.pop(ident, None) if kind == Kind.CLOSED else self._writers.get(ident)
        if end is not None:
            end.hear(frame)

    def _received(self, connection: Connection, frame: Frame) -> None:
        """In the I/O thread."""
        link = connection.link
        if link is None:
            if self._early is not None:
                self._early[connection].append(frame)
            return
        kind = frame.kind
        if kind == Kind.BYE:
            link.parting = True
            connection.close()
            return
        try:
            channel = frame.id if kind in _OF_A_CHANNEL else self._channels[frame.id]
            if kind in _TO_HOME or (kind == Kind.DATA and channel in self._brokers):
                with self._lock:
                    self._brokers[channel].handle(link.peer, frame)
            else:
                self._hear(frame)
        except KeyError:
            connection.abort(WireError(f"kind {kind} for {frame.id}, which is not here"))
        if self._leaving:
            self._look_whether_served()

    # -- connections, in the I/O thread

    def _spawn(self, coroutine: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = self._loop.create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _accept(self) -> None:
        while True:
            try:
                sock, _ = await self._loop.sock_accept(self._listener)
            except OSError as problem:  # short of fds, or the caller has gone
                self._refuse(f"it could not be let in: {problem}")
                await asyncio.sleep(_RETRY_S)
                continue
            connection = self._connection(sock, Handshake(self._secret, self.me))
            too_slow = HandshakeError(f"it has not proved itself within {HANDSHAKE_S:g} s")
            self._strangers[connection] = self._loop.call_later(HANDSHAKE_S, connection.abort, too_slow)
            if len(self._strangers) > MOST_STRANGERS:
                oldest = next(iter(self._strangers))
                oldest.abort(HandshakeError("too many others wanted in"))
            try:
                await self._loop.connect_accepted_socket(lambda: connection, sock)  # noqa: B023  # awaited at once
            except OSError:
                pass  # it has gone: `connection_lost` was never, or is yet to be called
            finally:
                if connection.transport is None:
                    sock.close()

    async def _connect(self, peer: int, address: Address) -> None:
        """Connects to another worker, or tells that it cannot."""
        began = self._loop.time()
        while (problem := await self._attempt(peer, address, began + CONNECT_S)) is not None:
            took = self._loop.time() - began
            if took >= CONNECT_S:
                where = f"[{address[0]}]" if ":" in address[0] else address[0]
                why = f"{where}:{address[1]} was tried for {took:.0f} s, at last: {problem}"
                self._lose(self._links[peer], why, self._tell_unreached)
                return
            await asyncio.sleep(_RETRY_S)

    async def _attempt(self, peer: int, address: Address, until: float) -> str | None:
        """Tries once to connect. Returns why it is in vain, or None when the connection is in use."""
        connection: Connection | None = None
        sock: socket.socket | None = None
        why: Exception | None = None
        try:
            sock = socket.socket(self._listener.family)
            sock.setblocking(False)
            sock.bind((self._host, 0))
            async with asyncio.timeout_at(max(until, self._loop.time() + _RETRY_S)):
                await self._loop.sock_connect(sock, address)
            made = connection = self._connection(sock, Handshake(self._secret, self.me, peer))
            over = connection.over = self._loop.create_future()
            await self._loop.create_connection(lambda: made, sock=sock)
            async with asyncio.timeout(PROOF_S):
                why = await over  # None: it is in use
        except TimeoutError as problem:
            if connection is None:
                return "no answer" if problem.errno is None else _in_the_systems_words(problem)
            if connection.link is None:
                return f"what takes connections there has not proved within {PROOF_S:g} s that it is this worker"
        except OSError as problem:
            return _in_the_systems_words(problem)
        finally:
            if sock is not None and (connection is None or connection.transport is None):
                sock.close()
            elif connection is not None and connection.link is None:
                connection.abort(None)
        return None if why is None else str(why)

    def _connection(self, sock: socket.socket, handshake: Handshake) -> Connection:
        with suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for name, value in _KEEP_ALIVE.items():
                if hasattr(socket, name):  # not everywhere
                    sock.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
        return Connection(sock, handshake, self._proven, self._received, self._lost, self._pool)

    def _proven(self, connection: Connection) -> None:
        self._no_stranger(connection)
        if self._early is None:
            self._admit(connection)
        else:
            self._early[connection] = []

    def _admit(self, connection: Connection) -> None:
        link = self._links.get(connection.handshake.peer)
        if link is not None and link.peer in self._returning:
            self._let_return(link)
        elif link is None or link.connection is not None or link.over:
            connection.abort(HandshakeError(f"worker {connection.handshake.peer} is not expected"))
            return
        link.use(connection)
        connection.settle(None)

    def _let_return(self, link: Link) -> None:
        """A worker that may start again has connected: what there was of an earlier life of it is over."""
        before = link.connection
        if before is None:
            return
        if not link.over:
            before.link = None  # what is still in it is not heard any more
            before.abort(None)
            self._away(link)
        link.renew()

    def _away(self, link: Link) -> None:
        with self._lock:
            for broker in self._brokers.values():
                broker.away(link.peer)

    def _no_stranger(self, connection: Connection) -> bool:
        timer = self._strangers.pop(connection, None)
        if timer is not None:
            timer.cancel()
        return timer is not None

    def _lost(self, connection: Connection, why: Exception | None) -> None:
        if self._early is not None and connection in self._early:
            return  # this station learns of it when it is open, after what has come before
        stranger = self._no_stranger(connection)
        link = connection.link
        if link is not None:
            self._lose(link, str(why or "the other end closed it"))
        elif connection.over is not None:
            connection.settle(why or ConnectionError("the other end closed it"))
        elif stranger or why is not None:
            self._refuse(str(why or "it went away before it had proved itself"))

    def _refuse(self, why: str) -> None:
        self._refused += 1
        if self._refused == 1 and not self._closing:
            self._tell_refused(
                f"a connection to worker {self.me} at {self.address[0]}:{self.address[1]} was refused: {why}. It is "
                f"not of this run; further ones are refused without a word"
            )

    def _lose(self, link: Link, why: str, tell: Callable[[int, str], None] | None = None) -> None:
        link.cut()
        if link.peer in self._returning:
            self._away(link)
        else:
            with self._lock:
                for broker in self._brokers.values():
                    broker.gone(link.peer)
        self._cut.set()
        if not link.parting and not self._closing:
            (tell or self._tell_lost)(link.peer, why)
        if self._leaving:
            self._look_whether_served()

    # -- the end

    async def served(self) -> None:
        """Waits until no other worker needs this one: its own ends are closed, and those of the channels kept here."""
        self._leaving = True
        self._look_whether_served()
        await asyncio.wrap_future(self._served)

    def _look_whether_served(self) -> None:
        with self._lock:
            if self._writers or self._readers or not all(broker.over for broker in self._brokers.values()):
                return
            if not self._served.done():
                self._served.set_result(None)

    def close(self) -> None:
        """Says goodbye to the others, and ends the thread. Blocks for `LINGER_S` at most. Not from the I/O thread."""
        if self._loop.is_closed() or not self._thread.is_alive():
            return
        asyncio.run_coroutine_threadsafe(self._close(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _close(self) -> None:
        self._closing = True
        after_fork.unprivate(self._listener.fileno())
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)
        self._listener.close()
        for connection in [*self._strangers, *(self._early or ())]:
            connection.abort(None)
        used = [link for link in self._links.values() if link.connection is not None]
        for link in used:
            link.send(Frame(Kind.BYE))
        until = self._loop.time() + LINGER_S
        while any(not link.over for link in used) and self._loop.time() < until:
            self._cut.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._cut.wait(), until - self._loop.time())
        for link in used:
            if not link.over and link.connection is not None:
                link.connection.abort(None)
            link.cut()
        await asyncio.sleep(0)  # aborted transports close on the next turn
        await asyncio.sleep(0)


def _in_the_systems_words(problem: OSError) -> str:
    """What keeps a connection from being made; asyncio puts words of its own, without the reason, in their place."""
    if problem.errno is None or isinstance(problem, socket.gaierror):
        return problem.strerror or str(problem)
    return os.strerror(problem.errno)
