"""How many losses in a row are more than bad luck, on a path that is known to lose a packet now and then.

A middlebox that drops every SYN with data and a network that drops every tenth packet look the same in one dial. They
differ in what comes after: the network takes the next one. So losses that were followed by a success are chance
losses; their share tells how soon bad luck would make a row of so many, and a row that bad luck makes too often is no
proof.
"""

from __future__ import annotations

FEWEST = 2  # one loss is never proof
MOST = 5  # and so many always are: each costs a session
_BAD_LUCK = 0.003  # a row that chance makes at most so often is taken for a middlebox
_MEMORY = 1 / 16  # weight of the newest dial


class Losses:
    """Losses in a row, and the share of losses that proved to be chance."""

    __slots__ = ("chance", "in_a_row")

    def __init__(self) -> None:
        self.in_a_row = 0
        self.chance = 0.0

    def lost(self) -> bool:
        """One more was lost; whether it was enough to believe in a middlebox."""
        self.in_a_row += 1
        return self.in_a_row >= FEWEST and (self.in_a_row >= MOST or self.chance**self.in_a_row <= _BAD_LUCK)

    def got_through(self) -> None:
        """One was not lost: those before it were chance."""
        for _ in range(self.in_a_row):
            self.chance += (1 - self.chance) * _MEMORY
        self.chance -= self.chance * _MEMORY
        self.in_a_row = 0
