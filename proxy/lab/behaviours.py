"""What an upstream does with a connection: small blocking functions, run in a thread for each conversation.

Each factory gives a `servers.Behaviour`. They end when the client does, or when the server is closed.
"""

from __future__ import annotations

from proxy.lab.servers import Behaviour, Conversation


def answers(
    reply: bytes = b"pong", *, request: int = 1, delay: float = 0.0, closes: bool = False
) -> Behaviour:
    """Waits for `request` bytes, then `delay` seconds, answers once, and reads on until the client ends.

    With `closes` the server ends first.
    """

    def behave(conversation: Conversation) -> None:
        while len(conversation.received) < request:
            if not conversation.receive():
                return
        conversation.pause(delay)
        conversation.send(reply)
        if closes:
            conversation.finish()
        conversation.receive_all()

    return behave


def slow(delay: float = 1.0, reply: bytes = b"pong") -> Behaviour:
    """Answers, but thinks for a second first."""
    return answers(reply, delay=delay)


def answers_each(reply: bytes = b"pong", *, request: int = 1) -> Behaviour:
    """Answers every `request` bytes, for as long as the client likes."""

    def behave(conversation: Conversation) -> None:
        owed = 0
        while data := conversation.receive():
            owed += len(data)
            while owed >= request:
                owed -= request
                conversation.send(reply)

    return behave


def speaks_first(banner: bytes = b"220 ready\r\n", reply: bytes = b"") -> Behaviour:
    """Sends a banner as soon as it has the connection, then behaves like `answers` if there is a reply."""

    def behave(conversation: Conversation) -> None:
        conversation.send(banner)
        if reply and conversation.receive():
            conversation.send(reply)
        conversation.receive_all()

    return behave


def echoes() -> Behaviour:
    """Sends back what it gets, and ends when the client does."""

    def behave(conversation: Conversation) -> None:
        while data := conversation.receive():
            conversation.send(data)

    return behave


def resets(*, after: int = 1, reply: bytes = b"") -> Behaviour:
    """Resets the connection once it has `after` bytes (0: at once), perhaps after a part of an answer."""

    def behave(conversation: Conversation) -> None:
        while len(conversation.received) < after and conversation.receive():
            pass
        conversation.send(reply)
        conversation.reset()

    return behave


def never_answers() -> Behaviour:
    """Takes everything and says nothing."""
    return lambda conversation: conversation.receive_all()


def sends(size: int, *, pattern: bytes = bytes(range(256))) -> Behaviour:
    """Sends `size` bytes of a pattern, ends its direction, and reads the client's to the end: bulk."""

    def behave(conversation: Conversation) -> None:
        block = pattern * (65536 // len(pattern) + 1)
        block = block[: 65536 // len(pattern) * len(pattern)]
        left = size
        while left > 0:
            conversation.send(block[:left])
            left -= len(block)
        conversation.finish()
        conversation.receive_all()

    return behave
