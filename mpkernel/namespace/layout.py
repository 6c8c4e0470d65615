"""Which memory the large buffers of a pickle are, in their order.

Deltas name buffers by their numbers, which must mean the same on both sides. A process that pickles what it has loaded
may meet the same objects in another order (those in a set), or as something else (an array of strings that was a view).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from mpkernel.namespace.address import address_of
from mpkernel.namespace.pickling import Pickled


@dataclass(frozen=True, slots=True)
class Layout:
    """Address (None if unknown) and bytes of each buffer; the stamp of each text."""

    buffers: tuple[tuple[int | None, int], ...]
    texts: tuple[int, ...]

    @classmethod
    def of(cls, pickled: Pickled) -> Layout:
        """Of values that were pickled here, or that have been loaded."""
        buffers = tuple((address_of(buffer), buffer.nbytes) for buffer in pickled.buffers)
        return cls(buffers, tuple(text.stamp for text in pickled.texts))

    def is_of(self, pickled: Pickled) -> bool:
        """Whether each buffer and text of `pickled` is what has its number here, or is known by its size."""
        other = Layout.of(pickled)
        sizes = Counter(nbytes for _, nbytes in self.buffers)
        return (
            self.texts == other.texts
            and [n for _, n in self.buffers] == [n for _, n in other.buffers]
            and all(
                sizes[nbytes] == 1 or (address is not None and address == found)
                for (address, nbytes), (found, _) in zip(self.buffers, other.buffers, strict=True)
            )
        )


NOTHING = Layout((), ())


@dataclass(frozen=True, slots=True)
class Sent:
    """As what others know large values: the key of their segment, so many deltas over it; and what that is here."""

    key: str
    deltas: int
    layout: Layout
