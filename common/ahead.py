"""Items that are prepared in a thread while what reads them does something else."""

import collections
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Iterable, Iterator

END = object()


class Ahead:
    """The items of an iterable, in their order, prepared up to `count` of them early.

    waited: seconds that what reads them has waited for them so far; 0 if they were always ready

    An exception is raised where the item would have come.
    """

    def __init__(self, items: Iterable[Any], count: int):
        self._items = items
        self._count = count
        self.waited = 0.0

    def __iter__(self) -> Iterator[Any]:
        items = iter(self._items)
        with ThreadPoolExecutor(1) as pool:
            ready = collections.deque(pool.submit(next, items, END) for _ in range(self._count))
            while True:
                start = time.perf_counter()
                item = ready.popleft().result()
                self.waited += time.perf_counter() - start
                if item is END:
                    return
                ready.append(pool.submit(next, items, END))
                yield item
