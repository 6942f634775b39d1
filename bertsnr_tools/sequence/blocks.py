"""Group sequences, so that many short ones are worked on together and memory is bounded (`in_blocks`)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol, TypeVar


class WithSequence(Protocol):
    """A record, a chunk or a part of them."""

    @property
    def sequence(self) -> bytes: ...


Item = TypeVar("Item", bound=WithSequence)


def in_blocks(items: Iterable[Item], bases: int) -> Iterator[list[Item]]:
    """Consecutive items in lists of at least this number of bases, but for the last."""
    block: list[Item] = []
    size = 0
    for item in items:
        block.append(item)
        size += len(item.sequence)
        if size >= bases:
            yield block
            block, size = [], 0
    if block:
        yield block
