"""Distance correlation against a slow, plain reference and values known from elsewhere."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from defenses.distance_correlation import (
    distance_correlation,
    squared_distance_correlation,
    unbiased_distance_correlation,
)


def plain(first: Tensor, second: Tensor, power: int = 1) -> float:
    """The definition, written out entry by entry."""

    def centred(batch: Tensor) -> list[list[float]]:
        n = len(batch)
        d = [[math.dist(p.flatten().tolist(), q.flatten().tolist()) ** power for q in batch] for p in batch]
        row = [sum(line) / n for line in d]
        return [[d[i][j] - row[i] - row[j] + sum(row) / n for j in range(n)] for i in range(n)]

    def product(a: list[list[float]], b: list[list[float]]) -> float:
        return (
            sum(x * y for one, other in zip(a, b, strict=True) for x, y in zip(one, other, strict=True)) / len(a) ** 2
        )

    a, b = centred(first), centred(second)
    return math.sqrt(max(product(a, b), 0) / math.sqrt(product(a, a) * product(b, b)))


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@settings(max_examples=20, deadline=None)
@given(n=st.integers(4, 12), p=st.integers(1, 5), q=st.integers(1, 5), seed=st.integers(0, 99))
def test_equals_the_definition(n: int, p: int, q: int, seed: int) -> None:
    x, z = normal(n, p, seed=seed), normal(n, q, seed=seed + 1).square()
    assert float(distance_correlation(x, z)) == pytest.approx(plain(x, z), abs=1e-6)
    assert float(squared_distance_correlation(x, z)) == pytest.approx(plain(x, z, power=2), abs=1e-6)


def test_of_a_parabola() -> None:
    x = normal(2000)
    assert float(distance_correlation(x, x.square())) == pytest.approx(0.545, abs=0.04)
    assert float(squared_distance_correlation(x, x.square())) < 0.12, "blind to what is not linear"


def test_of_itself_is_1_and_symmetric_and_blind_to_scale() -> None:
    x, z = normal(20, 3), normal(20, 2, 4, seed=1)
    assert float(distance_correlation(x, 5 * x + 2)) == pytest.approx(1, abs=1e-6)
    assert float(unbiased_distance_correlation(x, x)) == pytest.approx(1, abs=1e-6)
    assert float(distance_correlation(x, z)) == pytest.approx(float(distance_correlation(7 * z, x)), abs=1e-9)


def test_the_bias_that_the_unbiased_form_removes() -> None:
    pairs = [(normal(32, 784, seed=s), normal(32, 500, seed=s + 1000)) for s in range(20)]
    biased = sum(float(distance_correlation(*pair)) for pair in pairs) / len(pairs)
    unbiased = sum(float(unbiased_distance_correlation(*pair)) for pair in pairs) / len(pairs)
    assert biased == pytest.approx(0.994, abs=0.003)  # of independent batches!
    assert abs(unbiased) < 0.02


IN_CLOSED_FORM = [distance_correlation, unbiased_distance_correlation]
FORMS = pytest.mark.parametrize("form", [*IN_CLOSED_FORM, squared_distance_correlation])
Form = Callable[[Tensor, Tensor], Tensor]


@FORMS
@pytest.mark.parametrize("count", [5, 40])
def test_gradients_are_right_along_both_batches(form: Form, count: int) -> None:
    x, z = normal(count, 3).requires_grad_(), normal(count, 2, 2, seed=1).requires_grad_()
    assert torch.autograd.gradcheck(form, (x, z))
    assert torch.autograd.gradcheck(lambda t: form(x.detach(), t), z)


@FORMS
def test_samples_that_coincide_pull_each_other_nowhere(form: Form) -> None:
    z = normal(3, 2, seed=1).repeat(2, 1).requires_grad_()
    form(normal(6, 3), z).backward()
    assert z.grad is not None
    assert torch.isfinite(z.grad).all()
    assert z.grad.abs().max() > 0.01
    constant = torch.ones(6, 2, requires_grad=True)
    form(normal(6, 3), constant).backward()
    assert constant.grad is not None
    assert not constant.grad.any()


@FORMS
def test_gradients_keep_single_precision(form: Form) -> None:
    x, z = normal(100, 60), (normal(100, 50, seed=1) + 3).requires_grad_()
    single = z.detach().float().requires_grad_()
    form(x, z).backward()
    form(x.float(), single).backward()
    assert z.grad is not None
    assert single.grad is not None
    assert (single.grad - z.grad).norm() < 1e-5 * z.grad.norm()


@pytest.mark.parametrize("form", IN_CLOSED_FORM)
def test_a_second_derivative_is_refused(form: Form) -> None:
    z = normal(6, 2).requires_grad_()
    with pytest.raises(NotImplementedError, match="got create_graph=True"):
        torch.autograd.grad(form(normal(6, 3), z), z, create_graph=True)


@pytest.mark.parametrize(("first", "second"), [(3, 4), (1, 1)])
def test_batches_that_cannot_be_compared_are_refused(first: int, second: int) -> None:
    with pytest.raises(ValueError, match=f"got {first} and {second}"):
        distance_correlation(normal(first, 2), normal(second, 2))
    with pytest.raises(ValueError, match=f"got {first} and {second}"):
        squared_distance_correlation(normal(first, 2), normal(second, 2))


def test_small_distances_are_exact_beside_large_ones() -> None:
    x = normal(30, 500).float() + 5
    x[10:20] = x[:10] + 1e-4 * normal(10, 500, seed=1).float()  # lost to cancellation in a plain matrix product
    z = normal(30, 4, seed=2).float()
    doubled = torch.cat([x, x[:3]]), torch.cat([z, z[:3]])
    assert float(distance_correlation(*doubled)) == pytest.approx(plain(*doubled), abs=1e-5)
    near = x[[0, 10]], torch.tensor([[0.0], [1.0]])
    assert float(distance_correlation(*near)) == pytest.approx(1, abs=1e-3)
