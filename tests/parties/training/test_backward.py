"""The backward pass in two parts is the whole one, to the bit, and the first part leaves the weights alone."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import Tensor, nn

from parties.training.backward import input_gradients
from parties.training.branch import MOST_HELD, Branch
from parties.training.learner import Learner, Optimiser


class Residual(nn.Module):
    """Several ways from input to output, with batch normalisation."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.norm, self.second = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), nn.Conv2d(3, 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        hidden: Tensor = self.norm(self.first(images)).relu()
        return images + self.second(hidden) * hidden.mean()


class Shift(nn.Module):
    """Its gradient is the very tensor that goes on to the input."""

    def __init__(self) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(4, 3, 8, 8))

    def forward(self, images: Tensor) -> Tensor:
        return images + self.shift


class Twice(nn.Module):
    """One weight at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Conv2d(3, 3, 3, padding=1)

    def forward(self, images: Tensor) -> Tensor:
        return self.layer(self.layer(images).tanh())


class Squared(nn.Module):
    """A weight that enters by a detour of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.linspace(0.5, 1.5, 3).view(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        return images * self.weight.square().exp()


MODELS = {
    "plain": lambda: nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 8), nn.Linear(8, 5)
    ),
    "residual": Residual,
    "shift": Shift,
    "one weight twice": Twice,
    "detour": Squared,
    "nothing to learn": nn.Tanh,
    "frozen first layer": lambda: nn.Sequential(nn.Conv2d(3, 3, 3).requires_grad_(False), nn.Conv2d(3, 2, 3)),
    "nothing at all": nn.Identity,
}


def batch(seed: int) -> Tensor:
    return torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(seed)).requires_grad_()


@pytest.mark.parametrize("name", MODELS)
def test_both_parts_together_are_the_whole_over_several_micro_batches(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name]()
    twin = copy.deepcopy(model)
    sent, kept = [], []
    for seed in range(3):
        ours, theirs = batch(seed), batch(seed)
        output, expected = model(ours), twin(theirs)
        gradient = torch.cos(output.detach())
        expected.backward(gradient)
        (found,), afterwards = input_gradients(output, [ours], gradient)
        sent.append((found, found.clone()))
        kept.append(theirs.grad)
        afterwards()
    for (found, as_sent), expected in zip(sent, kept, strict=True):
        assert torch.equal(found, expected)
        assert torch.equal(found, as_sent), "what went to the peer was changed afterwards"
    for (at, weight), wanted in zip(model.named_parameters(), twin.parameters(), strict=True):
        assert (weight.grad is None) == (wanted.grad is None), at
        if weight.grad is not None and wanted.grad is not None:
            assert torch.equal(weight.grad, wanted.grad), at


def test_the_first_part_leaves_weights_gradients_for_later() -> None:
    model, images = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 2)), batch(0)
    loss = model(images).square().mean()
    _, afterwards = input_gradients(loss, [images])
    assert all(weight.grad is None for weight in model.parameters())
    afterwards()
    assert all(weight.grad is not None for weight in model.parameters())
    assert images.grad is None


def test_several_inputs_each_get_theirs() -> None:
    model, left, right = nn.Linear(6, 2), torch.randn(5, 2).requires_grad_(), torch.randn(5, 4).requires_grad_()
    loss = model(torch.cat([left, right], dim=1)).square().sum()
    expected = torch.autograd.grad(loss, [left, right], retain_graph=True)
    found, _ = input_gradients(loss, [left, right])
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


def test_a_branch_puts_off_the_gradients_of_no_more_than_so_many_micro_batches() -> None:
    layers = nn.Linear(4, 2)
    branch = Branch(Learner({"server": layers}, Optimiser()), 2, None)
    for number in range(MOST_HELD + 1):
        activation = torch.randn(1, 4).requires_grad_()
        branch.learn(branch.layers(activation).sum(), [activation])
        assert (layers.weight.grad is None) == (number < MOST_HELD)
