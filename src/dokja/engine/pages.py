"""Who uses the pages of a pool, and what is known of those that nobody uses (no torch).

A page that somebody uses is never given to somebody else; several may use one that is full. A page that nobody uses
any more but whose content is known by a digest waits for a prompt that begins like it. It is given up when room is
needed, the one that was unused for longest first.
"""

from __future__ import annotations

from collections import OrderedDict

PAGE = 32
"""Positions of a page."""


def pages_for(length: int) -> int:
    """Pages that hold `length` positions."""
    return -(-length // PAGE)


class Pool:
    """Pages 1 to `size` of one group of layers. Page 0 is never given out."""

    def __init__(self, keep: int, limit: int | None):
        """`keep`: unused known pages for whose sake the pool may grow. `limit`: the most pages, None for any number."""
        self.keep, self.limit = keep, limit
        self.size = 0
        self._users = [1]
        self._free: list[int] = []
        self._digest: dict[int, bytes] = {}
        self._known: dict[bytes, int] = {}
        self._unused: OrderedDict[int, None] = OrderedDict()  # known ones, the longest unused first

    @property
    def cached(self) -> int:
        """Pages that nobody uses and whose content is known."""
        return len(self._unused)

    @property
    def used(self) -> int:
        """Pages that somebody uses."""
        return self.size - len(self._free) - len(self._unused)

    def wanted(self) -> int:
        """Pages that the pool should grow to before the next `take`; `size` where it need not or must not."""
        if self._free or len(self._unused) > self.keep:
            return self.size
        wanted = max(2 * self.size, 16)
        return wanted if self.limit is None else min(wanted, self.limit)

    def grow(self, size: int) -> None:
        """There are `size` pages from now on."""
        self._free += range(size, self.size, -1)  # the first is taken first
        self._users += [0] * (size - self.size)
        self.size = size

    def take(self) -> int:
        """A page for one user, or 0 where all are in use."""
        if self._free:
            page = self._free.pop()
        elif self._unused:
            page, _ = self._unused.popitem(last=False)
            del self._known[self._digest.pop(page)]
        else:
            return 0
        self._users[page] = 1
        return page

    def share(self, page: int) -> None:
        """One more user of a page that is used or known."""
        if not self._users[page]:
            del self._unused[page]
        self._users[page] += 1

    def drop(self, page: int) -> None:
        """One user less."""
        self._users[page] -= 1
        if self._users[page]:
            return
        if page in self._digest:
            self._unused[page] = None
        else:
            self._free.append(page)

    def tell(self, page: int, digest: bytes) -> None:
        """What the page holds is known by this digest from now on, unless another page is known by it."""
        if digest not in self._known and page not in self._digest:
            self._known[digest], self._digest[page] = page, digest

    def find(self, digest: bytes) -> int:
        """The page known by this digest, or 0."""
        return self._known.get(digest, 0)

    def forget(self) -> None:
        """Nothing is known of any page."""
        self._free += self._unused
        self._unused.clear()
        self._known.clear()
        self._digest.clear()
