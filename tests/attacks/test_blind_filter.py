"""A convolution is told from what it answered to images that nobody knows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d

from attacks.inversion.blind_filter import BlindFilter, blind_filters
from split_models.randomness import layers_from


def pictures(count: int, channels: int = 3, seed: int = 0) -> Tensor:
    """Clouds: neighbours resemble each other, not alike on all sides."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(count, channels, 20, 20, generator=generator).exp()
    shape = torch.rand(channels, channels, 5, 5, generator=torch.Generator().manual_seed(9))
    return conv2d(noise, shape / shape.sum((1, 2, 3), keepdim=True)).clamp(0, 5) / 5


def convolution(channels: int = 3, width: int = 40, kernel: int = 3, padding: int = 0) -> nn.Conv2d:
    with layers_from(torch.Generator().manual_seed(1)):
        return nn.Conv2d(channels, width, kernel, padding=padding).requires_grad_(False)


def error(told: BlindFilter, head: nn.Conv2d) -> float:
    """Squared, of the weights, relative to them."""
    return float((told.layer.weight - head.weight).square().sum() / head.weight.square().sum())


@pytest.mark.parametrize(("channels", "kernel", "padding"), [(3, 3, 0), (3, 3, 1), (1, 5, 2), (3, 2, 0)])
def test_a_filter_is_told_up_to_its_sign_from_answers_to_other_images(channels: int, kernel: int, padding: int) -> None:
    head = convolution(channels, kernel=kernel, padding=padding)
    seen = head(pictures(200, channels, seed=1))
    one, other = blind_filters(pictures(400, channels, seed=2), seen)
    assert min(error(one, head), error(other, head)) < 0.05
    assert torch.equal(one.layer.weight, -other.layer.weight)
    assert one.residual < 0.05
    assert one.padding == padding
    assert one.padded()(pictures(2, channels)).shape == head(pictures(2, channels)).shape
    assert one.layer(pictures(2, channels)).shape == one.inside(head(pictures(2, channels))).shape


def test_what_is_no_convolution_alone_is_left() -> None:
    images, head = pictures(20), convolution()
    seen = head(images)
    for other in (
        seen.relu(),
        seen + 1e-3 * torch.randn(seen.shape, generator=torch.Generator().manual_seed(0)),
        convolution(width=20)(images),  # all of its channels are independent: nothing tells the patch
        seen[..., ::2, ::2],
        images,
        seen.flatten(1),
        torch.zeros_like(seen),
    ):
        assert blind_filters(images, other) == []
