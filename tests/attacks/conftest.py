"""A small trained LeNet on digits that attacks are judged on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from attacks.knowledge import Auxiliary
from parties.datasets.dataset import LabelledImages, partition
from parties.datasets.digits import digits
from split_models.randomness import generator_for, layers_from
from split_models.tensor_spec import TensorSpec
from split_models.training import accuracy, train_classifier
from split_models.zoo import build
from tests.support import Stage

SIZES = {"train": 900, "auxiliary": 400, "validation": 60, "victims": 40}


@dataclass
class Trained:
    """A network with what an attacker and its victims hold."""

    network: nn.Sequential
    spec: TensorSpec
    parts: dict[str, LabelledImages]

    @property
    def victims(self) -> Tensor:
        """The private images."""
        return self.parts["victims"].images

    @property
    def mean_image(self) -> Tensor:
        """What an attacker says who saw nothing."""
        return self.parts["auxiliary"].images.mean(0, keepdim=True).expand_as(self.victims)

    def stage(self, cut: str, **options: Any) -> Stage:
        """The network cut, with the auxiliary images of its data set."""
        auxiliary, validation = self.parts["auxiliary"], self.parts["validation"]
        known = Auxiliary(auxiliary.images, auxiliary.labels, validation.images, validation.labels)
        return Stage(self.network, cut, self.spec, known, **options)


@pytest.fixture(scope="session")
def trained() -> Trained:
    raw = digits()
    parts, _ = partition(raw, SIZES, seed=1)
    generator = generator_for(1, "target")
    with layers_from(generator):
        network = build("lenet", raw.input_spec, 10)
    train = parts["train"]
    train_classifier(
        network, train.images, train.labels, epochs=8, batch_size=32, learning_rate=2e-3, generator=generator
    )
    network.requires_grad_(False)
    assert accuracy(network, parts["victims"].images, parts["victims"].labels) > 0.85
    return Trained(network, raw.input_spec, parts)


def psnr_db(truth: Tensor, images: Tensor) -> float:
    """Mean over images of the peak signal-to-noise ratio, for values in [0, 1]."""
    errors = (truth - images).square().flatten(1).mean(1).clamp_min(1e-16)
    return float((-10 * torch.log10(errors)).mean())
