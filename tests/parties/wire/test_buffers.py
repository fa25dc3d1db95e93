"""Memory is used again only when nobody can see it any more."""

from __future__ import annotations

import torch

from parties.wire.buffers import Buffers

SIZE = 100_000


def test_memory_comes_back_when_the_last_view_of_it_is_gone() -> None:
    buffers = Buffers()
    first = buffers.take(SIZE, torch.float32)
    where = first.data_ptr()
    view = first[10:20].view(5, 2)
    del first
    other = buffers.take(SIZE, torch.float32)
    assert other.data_ptr() != where
    del view
    assert buffers.take(SIZE, torch.float32).data_ptr() == where


def test_what_is_held_is_never_handed_out_twice() -> None:
    buffers = Buffers()
    held = [buffers.take(SIZE, torch.float32).fill_(number) for number in range(20)]
    assert len({tensor.data_ptr() for tensor in held}) == 20
    assert all(bool((tensor == number).all()) for number, tensor in enumerate(held))


def test_a_gradient_s_memory_is_held() -> None:
    buffers = Buffers()
    weight = torch.ones(SIZE, requires_grad=True)
    product = (buffers.take(SIZE, torch.float32).fill_(3.0) * weight).sum()
    buffers.take(SIZE, torch.float32).fill_(7.0)
    product.backward()  # type: ignore[no-untyped-call]
    assert weight.grad is not None
    assert bool((weight.grad == 3.0).all())


def test_no_more_is_kept_than_allowed() -> None:
    buffers = Buffers(kept_bytes=3 * SIZE * 4)
    held = [buffers.take(SIZE, torch.float32) for _ in range(10)]
    del held
    assert sum(array.nbytes for array in buffers._arrays) <= 3 * SIZE * 4
    assert buffers.take(4 * SIZE, torch.float32).shape == (4 * SIZE,)


def test_every_dtype_fits() -> None:
    buffers = Buffers()
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64, torch.int64, torch.uint8):
        assert buffers.take(SIZE, dtype).dtype is dtype
