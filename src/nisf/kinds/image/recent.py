"""A cache shared by threads: one thread makes a value, the others wait for it."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Future
from typing import Generic, TypeVar

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


class Recent(Generic[Key, Value]):
    """A thread-safe LRU cache; each value is made once.

    Args:
        most: maximum number of values; unlimited if None.
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        self._values: OrderedDict[Key, Future[Value]] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._values)

    def done(self) -> int:
        """How many values are made."""
        with self._lock:
            return sum(future.done() for future in self._values.values())

    def get(self, key: Key, make: Callable[[Key], Value]) -> Value:
        """Return the value of a key; make it if necessary."""
        return self.get_all([key], make)[0]

    def get_all(self, keys: Sequence[Key], make: Callable[[Key], Value]) -> list[Value]:
        """Return the values of several keys, waiting last for those that other threads are making."""
        found = [self._claimed(key, make) for key in keys]
        return [future.result() for future in found]

    def _claimed(self, key: Key, make: Callable[[Key], Value]) -> Future[Value]:
        """The future of a value, which another thread may still be making."""
        with self._lock:
            found = self._values.get(key)
            future = Future() if found is None else found
            self._values[key] = future
            self._values.move_to_end(key)
            while self.most is not None and len(self._values) > self.most:
                self._values.popitem(last=False)
        if found is None:
            try:
                future.set_result(make(key))
            except BaseException as error:
                with self._lock:
                    self._values.pop(key, None)
                future.set_exception(error)
                raise
        return future
