"""What an attacker who knows the defense takes for the map from images to what it saw."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from attacks.inversion.objective import Head
from attacks.knowledge import Knowledge
from attacks.sightings import MERGES, average

PROBES, PROBE_DRAWS = 32, 16
"""Images of the attacker's own, and how often each is sent through the defense, to find out what that does."""

NEGLIGIBLE = 1e-4
"""Squared shift of the mean, relative to the activations' energy, that no attack would notice."""


@dataclass(frozen=True)
class ForwardModel:
    """How sightings of an input become one activation, and which map that activation is compared with."""

    heads: tuple[Head, ...]  # candidates: the head itself, or also what is sent on average
    merge: str = "average"  # of MERGES
    zero_trust: float = 1.0  # how much an element is worth that was 0 in every sighting
    shift: float = 0.0  # squared, of the mean of what is sent from what the head computes, relative to its energy

    def merged(self, sightings: Tensor) -> Tensor:
        """(N, repeats, *shape) → (N, *shape)."""
        return MERGES[self.merge](sightings)


class ExpectedHead(nn.Module):
    """E[D(f(x))] over the draws of a defense D: images (N, C, H, W) → (N, *shape).

    Every call takes the same draws (common random numbers), so a search sees one smooth loss: expectation over
    transformation (Athalye et al., ICML 2018) as a sample average. Which draws a victim meets depends on its place
    in the batch, so that batch has to stay together.
    """

    keeps_batch = True

    def __init__(self, knowledge: Knowledge, draws: int, seed: int) -> None:
        super().__init__()
        self._knowledge, self._draws, self._seed = knowledge, draws, seed

    def forward(self, images: Tensor) -> Tensor:
        generator = torch.Generator().manual_seed(self._seed)
        repeated = images.repeat(self._draws, *[1] * (images.ndim - 1))
        sent = self._knowledge.as_sent(repeated, generator)
        return sent.reshape(self._draws, len(images), *sent.shape[1:]).mean(0)


def freed(knowledge: Knowledge, images: Tensor) -> tuple[Knowledge, Tensor]:
    """The same knowledge where the defense adds nothing to an activation of zeros, and what it did add: (1, *shape).

    Only what it adds every time, a fixed mask for one, and more of it than there is signal: the attack measures by the
    energy of what it sees, which would be the mask's. Take it off what was observed as well.
    """
    assert knowledge.head is not None
    assert knowledge.defense is not None
    nothing, protect = torch.zeros(1, *knowledge.activation_spec.shape), knowledge.defense.protect
    with torch.no_grad():
        added, again = (protect(nothing, torch.Generator().manual_seed(seed)) for seed in (0, 1))
        energy = knowledge.head(images[:PROBES]).square().mean()
    if not torch.equal(added, again) or added.square().mean() <= energy:
        return knowledge, nothing
    defense = replace(knowledge.defense, protect=lambda activations, generator: protect(activations, generator) - added)
    return replace(knowledge, defense=defense), added


def learnt(knowledge: Knowledge, images: Tensor, draws: int, generator: torch.Generator) -> ForwardModel:
    """The forward model of an attacker who knows head and defense, from the defense's effect on its own images.

    Where what is sent deviates from what the head computes by noise around it, averages are compared with the head.
    Where it is also shifted on average (noise before the head, dropout that left no zeros, rounding), the expectation
    of what is sent is a candidate as well.
    """
    assert knowledge.head is not None
    images = images[:PROBES]
    with torch.no_grad():
        clean = knowledge.head(images)
        sent = torch.stack([knowledge.as_sent(images, generator) for _ in range(PROBE_DRAWS)], dim=1)
    energy = clean.square().mean().clamp_min(1e-12)
    merge, zero_trust = _merge(knowledge, clean, images, generator)
    centre = average(sent) if zero_trust < 1 else sent.mean(1)
    spread = (sent - centre[:, None]).square().mean(1) / (PROBE_DRAWS - 1)  # what chance alone moves the centre by
    trusted = (centre != 0) | (zero_trust == 1.0)
    shift = float(((centre - clean).square() - spread)[trusted].mean() / energy) if trusted.any() else 0.0
    heads: tuple[Head, ...] = (knowledge.head,)
    if shift > max(NEGLIGIBLE, 0.2 * float(spread[trusted].mean() / energy)):
        fixed = bool((sent == sent[:, :1]).all())
        seed = int(torch.randint(2**62, (), generator=generator))
        heads += (ExpectedHead(knowledge, 1 if fixed else draws, seed),)
    return ForwardModel(heads, merge, zero_trust, max(shift, 0.0))


def _merge(knowledge: Knowledge, clean: Tensor, images: Tensor, generator: torch.Generator) -> tuple[str, float]:
    """The merge that comes nearest to what the head computes, and how much a 0 is worth that it leaves.

    That is the ratio of the mean squared error where something was let through to that where all is 0: about 1 if
    zeros are as true as the rest, about 0 if they are what masks have hidden.
    """
    sightings = knowledge.sightings(images, generator)
    errors = {name: (merge(sightings) - clean).square() for name, merge in MERGES.items()}
    best = min(errors, key=lambda name: float(errors[name].mean()))
    error, hidden = errors[best], (sightings == 0).all(1)
    if not hidden.any() or hidden.all():
        return best, 1.0
    least = 1e-6 * clean.square().mean()
    return best, float(((error[~hidden].mean() + least) / (error[hidden].mean() + least)).clamp(max=1.0))
