"""White-box inversion: find the image whose activation is the observed one (He et al. 2019, section 4.1)."""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from attacks.attack import ActivationAttack, AttackSettings
from attacks.inversion.affine import is_affine
from attacks.inversion.forward_model import ForwardModel, freed, learnt
from attacks.inversion.inverter import Inverter, SearchSettings
from attacks.inversion.objective import Head
from attacks.inversion.priors import PRIORS, PriorName
from attacks.inversion.priors.prior import Prior
from attacks.inversion.priors.smoothness import TotalVariation
from attacks.knowledge import Auxiliary, Capability, Knowledge

Weight = Annotated[float, Field(ge=0)]

PLAIN: Prior = TotalVariation()

EXACT_MSE = 1e-8
"""Where a linear solve comes so close to the attacker's own images (80 dB), no prior could add anything."""

UNEXPLAINED = 1e-3
"""Relative misfit of a linear solve above which something between the head and the wire is not the head's doing."""


class InversionSettings(SearchSettings):
    """How the search runs; the loss is ‖f(x) − v‖² / ‖v‖² + λ·prior(x) for each victim."""

    priors: tuple[PriorName, ...] = Field(
        default=("total_variation",), min_length=1, description="of several, the best on validation images"
    )
    weights: tuple[Weight, ...] = Field(
        default=(0.0, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0),
        min_length=1,
        description="λ, relative to the activation's energy; of several, the best on validation images",
    )
    tuning_images: int = Field(default=5, ge=1, description="validation images that choose prior and weight")
    draws: int = Field(
        default=8, ge=1, description="of the defense for its expectation in the loss, where it is no noise around 0"
    )


class RegularizedInversion(ActivationAttack):
    """Knows the head's weights. With auxiliary images it chooses prior and λ on them, through the defense if known.

    An affine head is recognised by probing it, and solved. Knowing the defense, the attack also learns whether an
    observed 0 is an activation or a mask, how repeated sightings are best merged, and whether what it saw is better
    compared with what the head computes or with the expectation of what is sent.
    """

    name = "regularized_inversion"
    requires = frozenset({Capability.HEAD})
    uses = frozenset({Capability.DEFENSE, Capability.AUXILIARY, Capability.REPEATS})
    Settings: ClassVar[type[AttackSettings]] = InversionSettings
    settings: InversionSettings

    def _prepare(self, knowledge: Knowledge, generator: torch.Generator) -> None:
        assert knowledge.head is not None
        self._model, self._added = ForwardModel((knowledge.head,)), torch.zeros(())
        if knowledge.defense is not None and knowledge.auxiliary is not None:
            images = knowledge.auxiliary.validation_images
            knowledge, self._added = freed(knowledge, images)
            self._model = learnt(knowledge, images, self.settings.draws, generator)
        head = self._model.heads[0]
        affine = is_affine(head, knowledge.input_spec, generator)
        self._inverter = self._inverter_of(knowledge, head, affine)
        candidates = [PRIORS[name]() for name in self.settings.priors]
        priors = [prior for prior in candidates if prior.needs <= knowledge.capabilities]
        self._prior, self._weight = PLAIN, 0.0 if affine else self._middle_weight
        if knowledge.auxiliary is not None:
            self._tune(knowledge, knowledge.auxiliary, priors or [PLAIN], generator)
        elif priors and not affine:
            self._prior = priors[0]
            self._prior.prepare(knowledge, generator)
        self.notes.update(
            affine=affine,
            merge=self._model.merge,
            zero_trust=self._model.zero_trust,
            expectation=self._inverter.head is not head,
            prior=self._prior.name,
            weight=self._weight,
        )

    def _inverter_of(self, knowledge: Knowledge, head: Head, affine: bool = False) -> Inverter:
        return Inverter(head, knowledge.input_spec, self.settings, affine, self._model.zero_trust)

    @property
    def _middle_weight(self) -> float:
        return self.settings.weights[len(self.settings.weights) // 2]

    def _tune(
        self, knowledge: Knowledge, auxiliary: Auxiliary, priors: list[Prior], generator: torch.Generator
    ) -> None:
        """Choose what errs least on validation images: forward model, prior and weight, all weights in one batch."""
        images = auxiliary.validation_images[: self.settings.tuning_images]
        observed = self._model.merged(knowledge.sightings(images, generator))
        others = [self._inverter_of(knowledge, head) for head in self._model.heads[1:]]
        inverters = [self._inverter, *others]
        if self._inverter.affine and float(self._error(self._inverter, observed, images, PLAIN, (0.0,))) < EXACT_MSE:
            return
        weights, least = self.settings.weights, torch.inf
        for prior in priors:
            prior.prepare(knowledge, generator)
            if len(priors) == len(weights) == len(inverters) == 1:
                self._prior, self._weight = prior, weights[0]
                return
            for inverter in inverters:
                errors = self._error(inverter, observed, images, prior, weights)
                if float(errors.min()) < least:
                    least = float(errors.min())
                    self._inverter, self._prior, self._weight = inverter, prior, weights[int(errors.argmin())]
        self.notes["validation_mse"] = least

    def _error(
        self, inverter: Inverter, observed: Tensor, images: Tensor, prior: Prior, weights: tuple[float, ...]
    ) -> Tensor:
        """The mean squared error (weights,) on images of the attacker's own."""
        repeated = observed.repeat(len(weights), *[1] * (observed.ndim - 1))
        found = inverter(repeated, prior, torch.tensor(weights).repeat_interleave(len(images))).images
        errors: Tensor = found.unflatten(0, (len(weights), len(images))) - images
        return errors.square().flatten(1).mean(1)

    def _reconstruct_repeated(self, knowledge: Knowledge, sightings: Tensor, generator: torch.Generator) -> Tensor:
        return self._reconstruct(knowledge, self._model.merged(sightings - self._added), generator)

    def _reconstruct(self, knowledge: Knowledge, activations: Tensor, generator: torch.Generator) -> Tensor:
        weight = torch.full((len(activations),), self._weight)
        solved = self._inverter.solves(self._prior, weight)
        found = self._inverter(activations, self._prior, weight, self.progress)
        if solved and not self._weight and float(found.losses.median()) > UNEXPLAINED:
            # The system has no solution, so there was noise: what fits it best is noise as well.
            solved = False
            weight = torch.full_like(weight, self._middle_weight)
            self.notes.update(weight=self._middle_weight, unexplained=float(found.losses.median()))
            found = self._inverter(activations, PLAIN, weight, self.progress)
        method = "linear solve" if solved else "search"
        self.notes.update(method=method, steps=found.steps, median_loss=float(found.losses.median()))
        if found.without_gradient:
            self.notes["without_gradient"] = found.without_gradient
        return found.images
