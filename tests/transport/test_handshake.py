"""Both ends prove that they know the secret, and nobody else can."""

from __future__ import annotations

import os

import pytest

from cascata.transport.tcp.handshake import HELLO, Handshake, HandshakeError, new_secret


def meet(connecting: Handshake, accepting: Handshake) -> None:
    answer = accepting.feed(connecting.opening)
    assert not accepting.done
    proof = connecting.feed(answer)
    assert connecting.done
    assert accepting.feed(proof) == b""
    assert accepting.done


def test_two_workers_of_a_run_know_each_other() -> None:
    secret = new_secret()
    connecting, accepting = Handshake(secret, 5, peer=2), Handshake(secret, 2)
    meet(connecting, accepting)
    assert (connecting.peer, accepting.peer) == (2, 5)


def test_who_connects_without_the_secret_is_refused() -> None:
    accepting, stranger = Handshake(new_secret(), 0), Handshake(new_secret(), 1, peer=0)
    answer = accepting.feed(stranger.opening)
    with pytest.raises(HandshakeError, match="secret"):
        stranger.feed(answer)
    with pytest.raises(HandshakeError, match="secret"):
        accepting.feed(os.urandom(accepting.wants))
    assert not accepting.done


def test_who_accepts_without_the_secret_is_left() -> None:
    connecting, impostor = Handshake(new_secret(), 1, peer=0), Handshake(new_secret(), 0)
    with pytest.raises(HandshakeError, match="secret"):
        connecting.feed(impostor.feed(connecting.opening))
    assert not connecting.done


def test_a_recorded_handshake_is_worth_nothing() -> None:
    secret = new_secret()
    connecting, accepting = Handshake(secret, 1, peer=0), Handshake(secret, 0)
    opening = connecting.opening
    proof = connecting.feed(accepting.feed(opening))
    again = Handshake(secret, 0)
    again.feed(opening)
    with pytest.raises(HandshakeError):
        again.feed(proof)


def test_a_proof_cannot_be_sent_back_to_who_gave_it() -> None:
    secret = new_secret()
    accepting = Handshake(secret, 0)
    answer = accepting.feed(Handshake(new_secret(), 1, peer=0).opening)
    with pytest.raises(HandshakeError):
        accepting.feed(answer[HELLO.size :])


def test_the_worker_that_answers_is_the_one_that_was_meant() -> None:
    secret = new_secret()
    connecting, accepting = Handshake(secret, 2, peer=0), Handshake(secret, 1)
    with pytest.raises(HandshakeError, match="worker 1, not 0"):
        connecting.feed(accepting.feed(connecting.opening))


def test_another_protocol_is_refused_at_its_first_words() -> None:
    with pytest.raises(HandshakeError, match="another language"):
        Handshake(new_secret(), 0).feed(
            b"GET / HTTP/1.1\r\nHost: worker.example:80\r\n\r\n"[: HELLO.size].ljust(HELLO.size)
        )


def test_the_secret_itself_is_never_said() -> None:
    secret = new_secret()
    connecting, accepting = Handshake(secret, 1, peer=0), Handshake(secret, 0)
    answer = accepting.feed(connecting.opening)
    said = connecting.opening + answer + connecting.feed(answer)
    assert secret not in said
