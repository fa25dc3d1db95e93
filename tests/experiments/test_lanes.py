"""Lanes: everything is done once, errors surface, nothing is begun after one."""

from __future__ import annotations

import threading

import pytest

from experiments.lanes import in_lanes


def test_every_item_is_done_once_by_some_lane() -> None:
    lanes = set()
    both = threading.Barrier(2, timeout=10)

    def work(lane: int, item: int) -> int:
        lanes.add(lane)
        if item < 2:
            both.wait()  # passes only if two items are under way at once
        return item * item

    assert dict(in_lanes(range(6), 2, work)) == {item: item * item for item in range(6)}
    assert lanes == {0, 1}


def test_the_first_error_is_raised_and_no_further_item_is_begun() -> None:
    begun = []

    def work(lane: int, item: int) -> int:
        begun.append(item)
        raise ValueError(f"item {item}")

    with pytest.raises(ValueError, match="item 0"):
        list(in_lanes([0, 1, 2], 1, work))
    assert begun == [0]
