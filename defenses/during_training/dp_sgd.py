"""DP-SGD for the owner's half: clipped, noised gradients of every sample (Abadi et al., CCS 2016), through Opacus."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

from defenses.defense import Defense, DefenseError, TrainingPlan
from defenses.settings import checked, positive
from split_models.tensor_spec import TensorSpec


class DPSGD(Defense):
    """Clips each sample's gradient of the head to an ℓ2 norm of `clip` and adds N(0, (noise·clip)²) to their sum.

    Gradients come through the tail, whose own training is as it was; activations go out as they are. The ε of the
    notes is what Opacus' Rényi accountant gives for (ε, δ)-privacy of one training sample in the *head's* gradient
    steps. It treats the shuffled batches as drawn at random, as is usual, and takes the tail's weights at every step as
    given: a tail that is trained without noise, and whoever sees the activations, are outside of it. It says nothing
    about inverting a message, which is what most defenses here are for.

    Raises:
        DefenseError: Opacus is not there, or the head has a layer that mixes samples, such as batch normalisation.
    """

    name = "dp_sgd"
    on_wire = False
    trains = True
    per_sample_gradients = True

    def __init__(self, *, noise: float, clip: float = 1.0, delta: float = 1e-5) -> None:
        super().__init__()
        self.noise = checked(self.name, "noise", noise)
        self.clip = positive(self.name, "clip", clip)
        self.delta = positive(self.name, "delta", delta, below=1.0)

    @property
    def settings(self) -> dict[str, Any]:
        return {"noise": self.noise, "clip": self.clip, "delta": self.delta}

    def attach(self, inputs: TensorSpec, activation: TensorSpec) -> None:
        _opacus()

    def check_head(self, head: nn.Module) -> None:
        # Opacus judges layers as they are in training; the head itself keeps its mode.
        trained = copy.deepcopy(head).train()
        if problems := _opacus().validators.ModuleValidator.validate(trained, strict=False):
            raise DefenseError(f"{self.name}: the head does not keep samples apart: {problems[0]}; use another network")

    @contextmanager
    def around_training(
        self, head: nn.Module, plan: TrainingPlan, generator: torch.Generator
    ) -> Iterator[Callable[[], None]]:
        opacus = _opacus()
        weights = [parameter for parameter in head.parameters() if parameter.requires_grad]
        if not weights:  # nothing of the head is learnt, so nothing of the data is in it
            self.notes["epsilon"] = 0.0
            yield lambda: None
            return
        self.check_head(head)
        accountant = opacus.accountants.RDPAccountant()
        batch = min(plan.batch_size, plan.samples)
        observed = opacus.GradSampleModule(head, loss_reduction="mean")
        # Opacus' optimiser only turns the gradients into private ones; the owner's own takes the step.
        private = opacus.optimizers.DPOptimizer(
            torch.optim.SGD(weights, lr=0.0),
            noise_multiplier=self.noise,
            max_grad_norm=self.clip,
            expected_batch_size=batch,
            generator=generator,
        )

        def before_step() -> None:
            private.pre_step()
            for weight in weights:  # not zero_grad(), which would throw the private gradients away as well
                weight.grad_sample = weight.summed_grad = None  # type: ignore[attr-defined]
            accountant.step(noise_multiplier=self.noise, sample_rate=batch / plan.samples)

        try:
            yield before_step
        finally:
            observed.to_standard_module()
        # Without noise there is no guarantee, and no finite number for it.
        self.notes["epsilon"] = accountant.get_epsilon(self.delta) if self.noise > 0 else None


def _opacus() -> Any:
    # Only this defense needs it, and importing it takes a second.
    try:
        import opacus
        import opacus.accountants
        import opacus.optimizers
        import opacus.validators
    except ImportError as error:
        raise DefenseError("dp_sgd: needs Opacus, which is not installed; pip install 'unsmash[dp]'") from error
    return opacus
