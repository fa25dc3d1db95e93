"""Decoders that learnt on shadows of one head, believed as far as each can read what another's shadow answers.

A decoder reads the shadow it learnt on far better than the head, which it has never seen. How well it will read that
shows on another shadow, which it has not seen either. Activations are given the mean and covariance of channels that
its shadow's have before it reads them (CORAL; Sun, Feng and Saenko, AAAI 2016): a shadow never quite has the head's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from attacks.attack import Progress
from attacks.decoders import Fitted, Pairs, Training, best_decoder
from attacks.knowledge import Knowledge

MOST_CHANNELS = 512
"""Beyond which, and where activations are flat, channels are matched one by one."""

COLOURED = 1000
"""Answers of a shadow that tell its channels' mean and covariance."""

LEAST = 1e-3
"""Variance, relative to the largest, below which a direction is not enlarged any further."""


@dataclass(frozen=True)
class Reader:
    """A decoder, and the channels' mean and covariance (as `_colours`) that it is used to."""

    decoder: Fitted
    mean: Tensor
    covariance: Tensor

    def __call__(self, activations: Tensor) -> Tensor:
        """Images (N, C, H, W) of activations (N, *shape), which together get the statistics that it is used to."""
        mean, covariance = _colours(activations)
        centred = (activations.flatten(2) if activations.ndim > 2 else activations[..., None]) - mean[:, None]
        wanted, plain = _power(self.covariance, 0.5), _power(covariance, -0.5)
        found = wanted @ plain @ centred if covariance.ndim == 2 else (wanted * plain)[:, None] * centred
        found = found + self.mean[:, None]
        return self.decoder(found.reshape(activations.shape)).float()


@dataclass(frozen=True)
class Committee:
    """Readers with the mean image (C, H, W) they deviate from, and how far to follow them away from it: `trust`."""

    readers: Sequence[Reader]
    mean_image: Tensor
    trust: float

    def __call__(self, activations: Tensor) -> Tensor:
        """Images (N, C, H, W) of activations (N, *shape) that were observed together."""
        return self.mean_image + self.trust * _deviation(self.readers, activations, self.mean_image)


def committee(
    knowledge: Knowledge,
    shadows: Sequence[nn.Module],
    training: Training,
    generator: torch.Generator,
    report: Progress = lambda fraction: None,
) -> Committee:
    """Train a reader on each of two or more shadows; the trust is what errs least where they read one another's."""
    assert knowledge.auxiliary is not None
    known, readers, judged = knowledge.auxiliary, [], []
    for number, shadow in enumerate(shadows):

        def report_part(part: float, number: int = number) -> None:
            report((number + part) / len(shadows))

        decoder, made = decoder_of(shadow, knowledge, training, generator, report_part)
        readers.append(Reader(decoder, *_colours(made[:COLOURED])))
        judged.append(_answers(shadow, known.validation_images))
    mean = known.images.mean(0)
    read = [
        _deviation([*readers[:left_out], *readers[left_out + 1 :]], answers, mean)
        for left_out, answers in enumerate(judged)
    ]
    true = torch.cat([known.validation_images - mean] * len(read))
    return Committee(readers, mean, _trust(torch.cat(read), true))


def decoder_of(
    shadow: nn.Module,
    knowledge: Knowledge,
    training: Training,
    generator: torch.Generator,
    report: Progress = lambda fraction: None,
) -> tuple[Fitted, Tensor]:
    """The best decoder of what a shadow answers to the attacker's images, and those answers."""
    assert knowledge.auxiliary is not None
    known = knowledge.auxiliary
    made = _answers(shadow, known.images)
    learnt = Pairs.fixed(made, known.images)
    judged = Pairs.fixed(_answers(shadow, known.validation_images), known.validation_images)
    return best_decoder(knowledge, learnt, judged, training, generator, report), made


def _answers(shadow: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return torch.cat([shadow(group).float() for group in images.split(256)])


def _deviation(readers: Sequence[Reader], activations: Tensor, mean: Tensor) -> Tensor:
    """From the mean image, averaged over readers."""
    return torch.stack([read(activations) for read in readers]).mean(0) - mean


def _trust(read: Tensor, true: Tensor) -> float:
    """The factor in [0, 1] that brings what was read nearest to what is true."""
    return float(((read * true).sum() / read.square().sum().clamp_min(1e-12)).clamp(0, 1))


def _colours(activations: Tensor) -> tuple[Tensor, Tensor]:
    """Mean (C,) and covariance of channels, (C, C), or (C,) where they are matched one by one."""
    channels = activations.transpose(0, 1).flatten(1).double()
    one_by_one = activations.ndim == 2 or len(channels) > MOST_CHANNELS
    spread = channels.var(1, correction=0) if one_by_one else torch.cov(channels, correction=0)
    return channels.mean(1).float(), spread.float()


def _power(covariance: Tensor, exponent: float) -> Tensor:
    """Of a covariance (C, C) or variances (C,), none of which is taken for next to nothing."""
    if covariance.ndim == 1:
        return covariance.clamp_min(max(LEAST * float(covariance.max()), 1e-12)) ** exponent
    variances, axes = torch.linalg.eigh(covariance.double())
    powers = variances.clamp_min(max(LEAST * float(variances[-1]), 1e-12)) ** exponent
    found: Tensor = ((axes * powers) @ axes.T).to(covariance)
    return found
