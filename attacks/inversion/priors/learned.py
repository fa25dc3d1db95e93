"""What images look like, learnt from the attacker's own: a decoder says where to begin, and the search stays near."""

from __future__ import annotations

import torch
from torch import Tensor

from attacks.attack import Progress
from attacks.decoders import Pairs, Training, best_decoder
from attacks.inversion.priors.prior import Prior
from attacks.knowledge import Capability, Knowledge
from attacks.sightings import average
from split_models.tensor_spec import TensorSpec

TRAINING = Training(epochs=12, batch_size=32, learning_rate=2e-3, width=32, capacities=("residual",))


class LearnedPrior(Prior):
    """A decoder's image, and the mean squared distance from it.

    Knowing the head, the attacker makes its own pairs of images and activations, through the defense where that is
    known, drawn anew for every epoch if it is random, and averaged over as many repeats as are seen of a victim. It
    needs no queries. The search then corrects what the decoder got wrong.
    """

    name = "learned"
    needs = frozenset({Capability.HEAD, Capability.AUXILIARY})
    quadratic = True

    def prepare(
        self, knowledge: Knowledge, generator: torch.Generator, report: Progress = lambda fraction: None
    ) -> None:
        assert knowledge.auxiliary is not None
        known = knowledge.auxiliary
        self._decoder = best_decoder(
            knowledge,
            _sent(knowledge, known.images, generator),
            _sent(knowledge, known.validation_images, generator),
            TRAINING,
            generator,
            report,
        )

    def begin(self, activations: Tensor, spec: TensorSpec) -> Tensor:
        return self._decoder(activations)

    def penalty(self, images: Tensor, begun: Tensor) -> Tensor:
        return (images - begun).square().flatten(1).mean(1)


def _sent(knowledge: Knowledge, images: Tensor, generator: torch.Generator) -> Pairs:
    """Images with what the owner would send for them."""

    def drawn(rows: Tensor) -> Tensor:
        return average(knowledge.sightings(images[rows], generator))

    first = torch.arange(min(8, len(images)))
    if torch.equal(drawn(first), drawn(first)):  # nothing is random: once is enough
        return Pairs.fixed(Pairs(images, drawn).once(), images)
    return Pairs(images, drawn)
