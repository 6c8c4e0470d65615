"""The requests that wait for a subshell, and what they take.

A queue may hold a hundred thousand cells, so nothing looks at all of them that needn't. Its memory has a limit: a
program that sends without ever waiting for replies must not take the machine's.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mpkernel.broker.state import Request

# Bytes that may wait for one subshell: frames, and what a request takes beside them.
MAX_WAITING = 512 << 20
OVERHEAD = 2048


class Waiting:
    """In order of arrival."""

    def __init__(self) -> None:
        self._requests: deque[Request] = deque()
        self._comms = 0  # how many of them are messages for comms
        self._urgent = 0  # and of these, urgent ones
        self.nbytes = 0

    def __len__(self) -> int:
        return len(self._requests)

    def __iter__(self) -> Iterator[Request]:
        return iter(self._requests)

    def __getitem__(self, index: int) -> Request:
        return self._requests[index]

    @property
    def has_comms(self) -> bool:
        return self._comms > 0

    @property
    def has_urgent(self) -> bool:
        return self._urgent > 0

    def has_room(self, request: Request) -> bool:
        """Whether one more may wait; one may in any case."""
        return not self._requests or self.nbytes + size(request) <= MAX_WAITING

    def append(self, request: Request) -> None:
        self._requests.append(request)
        self._count(request, 1)

    def extend(self, requests: Iterable[Request]) -> None:
        for request in requests:
            self.append(request)

    def popleft(self) -> Request:
        request = self._requests.popleft()
        self._count(request, -1)
        return request

    def remove(self, request: Request) -> None:
        self._requests.remove(request)
        self._count(request, -1)

    def clear(self) -> None:
        self._requests.clear()
        self._comms = self._urgent = self.nbytes = 0

    def _count(self, request: Request, by: int) -> None:
        self.nbytes += by * size(request)
        self._comms += by * request.is_comm
        self._urgent += by * request.is_urgent


def size(request: Request) -> int:
    """Bytes of memory that it takes."""
    return OVERHEAD + sum(map(len, request.message.frames))
