"""Query-free inversion with a shadow that a critic cannot tell from the head, and a decoder learnt on it.

In the line of PCAT (USENIX Security 2023), FORA (CVPR 2024) and SDAR (NDSS 2025), passively: the owners are never
acted on, the critic sees what the server saw.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import softplus

from attacks.attack import AttackSettings
from attacks.decoders import Capacity, Training
from attacks.knowledge import Knowledge
from attacks.on_activations.aligned_shadow import AlignedSettings, AlignedShadow, Loss
from attacks.on_activations.shadow_readers import decoder_of
from split_models.randomness import layers_from
from split_models.tensor_spec import TensorSpec

CRITIC_WIDTH = 32

PENALTY = 1.0
"""Of the critic's squared gradient at observed activations (R1; Mescheder et al., ICML 2018), which keeps it calm."""


class AdversarialSettings(AlignedSettings):
    """How the critic weighs, and how the decoder is trained; the rest as in the aligned shadow."""

    adversarial: float = Field(default=0.1, ge=0, description="weight of the critic's verdict against cross-entropy")
    critic_learning_rate: float = Field(default=1e-3, gt=0, description="of the critic's Adam")
    capacities: tuple[Capacity, ...] = Field(
        default=("plain",), min_length=1, description="decoders to train; of several, the best on validation images"
    )


class AdversarialShadow(AlignedShadow):
    """An aligned shadow that also learns to fool a critic of activations, read by a decoder instead of a search.

    The critic judges small patches, so that few observed activations are many examples.
    """

    name = "adversarial_shadow"
    Settings: ClassVar[type[AttackSettings]] = AdversarialSettings
    settings: AdversarialSettings

    def _further(self, knowledge: Knowledge, observed: Tensor, generator: torch.Generator) -> Loss | None:
        with layers_from(generator):
            critic = Critic(knowledge.activation_spec, observed)
        rival, weight = (
            Rival(critic, observed, self.settings.critic_learning_rate, generator),
            self.settings.adversarial,
        )
        return lambda made: weight * rival(made)

    def _inverted(self, knowledge: Knowledge, activations: Tensor, generator: torch.Generator) -> Tensor:
        settings = self.settings
        training = Training(
            settings.decoder_epochs, settings.batch_size, settings.learning_rate, settings.width, settings.capacities
        )
        decoder, _ = decoder_of(
            self._shadow, knowledge, training, generator, lambda part: self.progress((1 + part) / 2)
        )
        self.notes.update(capacity=decoder.capacity, validation_mse=decoder.error)
        return decoder(activations)


class Critic(nn.Module):
    """How much activations (N, *shape) look observed: logits (N, …), one a patch, or one a sample of flat ones."""

    def __init__(self, activation: TensorSpec, observed: Tensor) -> None:
        super().__init__()
        channels, width = activation.shape[0], CRITIC_WIDTH
        if len(activation.shape) == 3:
            layers = [nn.Conv2d(channels, width, 3, padding=1), nn.LeakyReLU(0.2)]
            layers += [nn.Conv2d(width, width, 3, padding=1), nn.LeakyReLU(0.2)]
            self.layers = nn.Sequential(*layers, nn.Conv2d(width, 1, 1))
        else:
            layers = [nn.Flatten(), nn.Linear(activation.elements, 2 * width), nn.LeakyReLU(0.2)]
            self.layers = nn.Sequential(*layers, nn.Linear(2 * width, 1))
        self.scale: Tensor
        self.register_buffer("scale", observed.square().mean().sqrt().clamp_min(1e-12))

    def forward(self, activations: Tensor) -> Tensor:
        found: Tensor = self.layers(activations / self.scale)
        return found


class Rival:
    """A critic in training against a shadow."""

    def __init__(self, critic: Critic, observed: Tensor, learning_rate: float, generator: torch.Generator) -> None:
        self._critic, self._observed, self._generator = critic, observed, generator
        self._optimizer = torch.optim.Adam(critic.parameters(), lr=learning_rate, betas=(0.5, 0.9))

    def __call__(self, made: Tensor) -> Tensor:
        """Let the critic learn from a batch that the shadow made, and say how far it sees through it: a scalar."""
        rows = torch.randint(len(self._observed), (len(made),), generator=self._generator)
        real = self._observed[rows].requires_grad_()
        verdict = self._critic(real)
        (gradient,) = torch.autograd.grad(verdict.sum(), real, create_graph=True)
        penalty = (gradient * self._critic.scale).square().flatten(1).sum(1).mean() / verdict[0].numel()
        loss = softplus(-verdict).mean() + softplus(self._critic(made.detach())).mean() + PENALTY * penalty
        self._optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self._optimizer.step()
        return softplus(-self._critic(made)).mean()
