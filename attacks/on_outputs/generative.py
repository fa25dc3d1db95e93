"""What generative inversions share: a generator of public pictures, among whose pictures they search.

One of them is one file: a subclass of `GenerativeAttack` that writes `_invert` with `self.prior`.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, interpolate

from attacks.attack import AttackSettings, Progress
from attacks.output_attack import Access, Goal, OutputAttack, OutputKnowledge
from split_models.randomness import layers_from
from split_models.tensor_spec import TensorSpec

LATENT = 64
GRADIENT_PENALTY = 10.0
CRITIC_STEPS = 3  # for each step of the generator; published: 5
PENALISED = 4  # one picture in so many has its critic's slope looked at: second derivatives cost the most


class PictureGan(nn.Module):
    """A generator of pictures with its critic: a Wasserstein GAN with gradient penalty (Gulrajani et al. 2017)."""

    def __init__(self, image: TensorSpec, width: int) -> None:
        super().__init__()
        self.image = image
        channels, height, breadth = image.shape
        grid = (2 * width, -(-height // 4), -(-breadth // 4))
        self.generate = nn.Sequential(
            nn.Linear(LATENT, math.prod(grid)),
            nn.Unflatten(1, grid),
            nn.BatchNorm2d(2 * width),
            nn.ReLU(),
            nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1),
            nn.BatchNorm2d(width),
            nn.ReLU(),
            nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
            nn.Sigmoid(),
        )
        self.critic = nn.Sequential(
            nn.Conv2d(channels, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Flatten(),
            nn.Linear(2 * width * (height // 4) * (breadth // 4), 1),
        )

    def forward(self, latent: Tensor) -> Tensor:
        """Latents (N, LATENT) → pictures (N, C, H, W) in [0, 1]."""
        _, height, width = self.image.shape
        images: Tensor = self.generate(latent)[:, :, :height, :width]  # twice doubled, it may be a little larger
        return images

    def draw(self, count: int, generator: torch.Generator) -> Tensor:
        """Latents (N, LATENT) of pictures as they are among the public ones."""
        return torch.randn(count, LATENT, generator=generator)


class GenerativeSettings(AttackSettings):
    """How the prior is trained."""

    prior_steps: int = Field(default=1000, ge=1, description="steps of the generator")
    batch_size: int = Field(default=64, ge=1, description="public images a step")
    width: int = Field(default=24, ge=1, description="channels of generator and critic")


class GenerativeAttack(OutputAttack):
    """Learns a prior from public images, whose labels it ignores, and searches among the pictures it generates.

    Set `prior` beforehand to use one that was trained earlier on the same images.
    """

    goal = Goal.CLASS
    requires = frozenset({Access.WEIGHTS, Access.AUXILIARY})
    Settings: ClassVar[type[AttackSettings]] = GenerativeSettings
    settings: GenerativeSettings
    prior: PictureGan | None = None

    def _prepare(self, knowledge: OutputKnowledge, generator: torch.Generator) -> None:
        assert knowledge.auxiliary is not None
        if self.prior is None:
            self.prior = train_prior(knowledge.auxiliary.images, self.settings, generator, self.progress)


def train_prior(
    images: Tensor, settings: GenerativeSettings, generator: torch.Generator, report: Progress = lambda fraction: None
) -> PictureGan:
    """A prior over images (N, C, H, W) in [0, 1]; it is frozen afterwards."""
    with layers_from(generator):
        prior = PictureGan(TensorSpec.of(images), settings.width)
    critic, maker = (
        torch.optim.Adam(part.parameters(), lr=5e-4, betas=(0.5, 0.9)) for part in (prior.critic, prior.generate)
    )
    for step in range(settings.prior_steps):
        for _ in range(CRITIC_STEPS):
            real = images[torch.randint(len(images), (settings.batch_size,), generator=generator)]
            with torch.no_grad():
                fake = prior(prior.draw(len(real), generator))
            critic.zero_grad(set_to_none=True)
            loss = prior.critic(fake).mean() - prior.critic(real).mean()
            some = max(1, len(real) // PENALISED)
            penalty = _penalty(prior.critic, real[:some], fake[:some], generator)
            (loss + GRADIENT_PENALTY * penalty).backward()
            critic.step()
        maker.zero_grad(set_to_none=True)
        (-prior.critic(prior(prior.draw(settings.batch_size, generator))).mean()).backward()
        maker.step()
        report((step + 1) / settings.prior_steps)
    return prior.eval().requires_grad_(False)


def _penalty(critic: nn.Module, real: Tensor, fake: Tensor, generator: torch.Generator) -> Tensor:
    """How far the critic's slope between real and generated pictures is from 1."""
    share = torch.rand(len(real), 1, 1, 1, generator=generator)
    between = (share * real + (1 - share) * fake).requires_grad_(True)
    (slope,) = torch.autograd.grad(critic(between).sum(), between, create_graph=True)
    penalty: Tensor = (slope.flatten(1).norm(dim=1) - 1).square().mean()
    return penalty


def corrupted(images: Tensor, corruption: str) -> Tensor:
    """What is left of pictures (N, C, H, W): without their middle ("masked"), or with means of 7×7 pixels ("blurred").

    Raises:
        ValueError: another corruption.
    """
    height, width = images.shape[-2:]
    if corruption == "masked":
        mask = torch.ones(height, width)
        mask[height // 4 : height - height // 4, width // 4 : width - width // 4] = 0
        return images * mask
    if corruption == "blurred":
        return interpolate(avg_pool2d(images, 7, ceil_mode=True), size=(height, width), mode="bilinear")
    raise ValueError(f"expected corruption 'masked' or 'blurred', got {corruption!r}")
