"""Work on several things at once, each lane with what is its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_lanes(items: Sequence[Item], lanes: int, work: Callable[[int, Item], Result]) -> Iterator[tuple[Item, Result]]:
    """Call `work(lane, item)` for every item, one at a time in each lane; yields items with results as they are done.

    The first exception of any lane is raised here; no further item is begun then, also when the caller stops asking.
    Threads suit work that waits, as for processes.
    """
    waiting: queue.SimpleQueue[Item] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[Item, Result] | BaseException] = queue.SimpleQueue()
    stopped = threading.Event()
    for item in items:
        waiting.put(item)

    def lane(number: int) -> None:
        while not stopped.is_set():
            try:
                item = waiting.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((item, work(number, item)))
            except BaseException as error:
                done.put(error)
                return

    for number in range(lanes):
        threading.Thread(target=lane, args=(number,), daemon=True).start()
    try:
        for _ in items:
            outcome = done.get()
            if isinstance(outcome, BaseException):
                raise outcome
            yield outcome
    finally:
        stopped.set()
