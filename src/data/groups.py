# SPDX-License-Identifier: Apache-2.0
"""Things that belong together, found pair by pair."""

from collections.abc import Iterable, Sequence


class Leaders:
    """Which things belong together: a forest in which each knows one that stands for it.

    Args:
        count: of the things; their numbers are 0 to count - 1.
    """

    def __init__(self, count: int) -> None:
        self._above = list(range(count))

    def leader(self, one: int) -> int:
        """Return the number that stands for all that belong to a thing.

        Args:
            one: its number.
        """
        while self._above[one] != one:
            self._above[one] = self._above[self._above[one]]
            one = self._above[one]
        return one

    def join(self, one: int, other: int) -> None:
        """Put two, and all that belong to them, together.

        Args:
            one, other: their numbers.
        """
        one, other = self.leader(one), self.leader(other)
        self._above[max(one, other)] = min(one, other)

    def groups(self) -> list[list[int]]:
        """Return the members of those groups that have more than one, rising."""
        found: dict[int, list[int]] = {}
        for one in range(len(self._above)):
            found.setdefault(self.leader(one), []).append(one)
        return [members for members in found.values() if len(members) > 1]


def together(names: Sequence[str], groups: Iterable[Sequence[int]]) -> list[str]:
    """Return names of groups, one for all that belong together by their name or by their place.

    Args:
        names: (N,) those of one name belong together.
        groups: positions that belong together, too.

    >>> together(["a", "b", "b", "c"], [(0, 1)])
    ['a', 'a', 'a', 'c']
    """
    leaders = Leaders(len(names))
    first: dict[str, int] = {}
    for position, name in enumerate(names):
        leaders.join(first.setdefault(name, position), position)
    for group in groups:
        for position in group[1:]:
            leaders.join(group[0], position)
    return [names[leaders.leader(position)] for position in range(len(names))]
