"""Can what is on a reconstruction still be recognised? Asked of a classifier that is not the target."""

from __future__ import annotations

from collections import OrderedDict

from torch import nn

from parties.datasets.dataset import LabelledImages
from split_models.randomness import generator_for, layers_from
from split_models.tensor_spec import TensorSpec
from split_models.training import train_classifier

DIMENSIONS: dict[int, tuple[type[nn.Module], type[nn.Module], type[nn.Module]]] = {
    1: (nn.Conv1d, nn.BatchNorm1d, nn.AdaptiveAvgPool1d),
    2: (nn.Conv2d, nn.BatchNorm2d, nn.AdaptiveAvgPool2d),
}
"""Layers by how many dimensions an input has behind its channels."""

EPOCHS = {1: 40, 2: 8}
"""Of training, by the same: sets of series are small."""


def train_evaluator(train: LabelledImages, classes: int, seed: int, epochs: int | None = None) -> nn.Module:
    """An independent classifier: another architecture, other initial weights and batches than the target's.

    It learns from the target's training part, which shares no image with the victims. Only the referee uses it.
    """
    generator = generator_for(seed, "evaluator")
    with layers_from(generator):
        evaluator = evaluator_network(TensorSpec.of(train.images), classes)
    train_classifier(
        evaluator,
        train.images,
        train.labels,
        epochs=epochs or EPOCHS[train.images.ndim - 2],
        batch_size=32,
        learning_rate=3e-3,
        generator=generator,
    )
    return evaluator


def evaluator_network(image: TensorSpec, classes: int) -> nn.Module:
    """The classifier's layers for images (C, H, W) or series (C, L), not yet trained."""
    channels, *sizes = image.shape
    convolution, normalisation, pool = DIMENSIONS[len(sizes)]
    return nn.Sequential(
        OrderedDict(
            conv1=convolution(channels, 16, 3, stride=2, padding=1),
            norm1=normalisation(16),
            relu1=nn.ReLU(),
            conv2=convolution(16, 32, 3, stride=2, padding=1),
            norm2=normalisation(32),
            relu2=nn.ReLU(),
            conv3=convolution(32, 64, 3, padding=1),
            norm3=normalisation(64),
            relu3=nn.ReLU(),
            pool=pool(4),
            flatten=nn.Flatten(),
            fc=nn.Linear(64 * 4 ** len(sizes), classes),
        )
    )
