"""The contracts of attacks on smashed data: from what was granted and seen to inputs, or to something about them."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar, final

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from attacks.knowledge import FIELDS, Capability, Knowledge, Observation
from attacks.sightings import average


class AttackRefused(Exception):
    """The threat model does not grant what an attack needs."""


class AttackSettings(BaseModel):
    """Settings of an attack; strict, so a misspelt key is an error that names the valid ones."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Progress = Callable[[float], None]
"""Told, from time to time, which fraction in [0, 1] is done."""


@dataclass(frozen=True)
class Learnt:
    """What an attack has learnt before it observed anything: enough to go on as if it had just learnt it."""

    tensors: dict[str, Tensor]
    notes: dict[str, Any]
    generator: Tensor  # the state that learning left its generator in


class Attack(ABC):
    """Runs in the untrusted party, and first learns what can be learnt: a subclass may write `_prepare`.

    `requires` must be granted, `uses` is handed over when it is; nothing else reaches the attack.
    """

    name: ClassVar[str]
    requires: ClassVar[frozenset[Capability]]
    uses: ClassVar[frozenset[Capability]] = frozenset({Capability.REPEATS})
    victims_apart: ClassVar[bool] = True  # is a victim's result the same whoever else is in the batch?
    Settings: ClassVar[type[AttackSettings]] = AttackSettings

    def __init__(self, settings: AttackSettings | None = None) -> None:
        self.settings = settings or self.Settings()
        self.notes: dict[str, Any] = {}  # what it chose and noticed by itself, for the record
        self.progress: Progress = lambda fraction: None
        self._knowledge: Knowledge | None = None

    @classmethod
    def wants(cls) -> frozenset[Capability]:
        """What is handed to the attack where it is granted."""
        return cls.requires | cls.uses

    @final
    def prepare(self, knowledge: Knowledge, generator: torch.Generator, learnt: Learnt | None = None) -> None:
        """Learn what can be learnt before anything was observed; every random draw comes from `generator`.

        `learnt` is what the same attack has learnt from the same knowledge and an equal generator: it takes that
        instead, and what follows is the same to the bit.

        Raises:
            AttackRefused: something required is not granted.
        """
        missing = sorted(self.requires - knowledge.capabilities)
        if missing:
            raise AttackRefused(f"{self.name} needs {', '.join(missing)}, which the threat model does not grant")
        self._knowledge, self._generator = knowledge, generator
        if learnt is None:
            self._prepare(knowledge, generator)
            return
        self.notes.update(learnt.notes)
        self._resume(knowledge, learnt.tensors)
        generator.set_state(learnt.generator)

    @final
    def learnt(self) -> Learnt | None:
        """What `prepare` has learnt; None where it learns nothing that is worth keeping."""
        tensors = self._learnt()
        return None if tensors is None else Learnt(tensors, dict(self.notes), self._generator.get_state())

    def _prepare(self, knowledge: Knowledge, generator: torch.Generator) -> None:
        return None

    def _learnt(self) -> dict[str, Tensor] | None:
        """All that `_prepare` leaves behind, but for the notes: trials that know the same share it."""
        return None

    def _resume(self, knowledge: Knowledge, tensors: dict[str, Tensor]) -> None:
        """Take what `_learnt` gave; the notes are there already, and every draw made here is undone."""
        raise NotImplementedError(f"{self.name} keeps nothing that it could resume from")

    def _sightings(self, observation: Observation) -> tuple[Knowledge, Tensor]:
        """What is known, and all that was seen of each input, as far as that is granted: (N, repeats, *shape)."""
        if self._knowledge is None:
            raise RuntimeError(f"{self.name}: call prepare() before it is shown an observation")
        sightings = observation.activations[:, None]
        if self._knowledge.repeats is not None and observation.repeated is not None:
            sightings = observation.repeated
        self._knowledge.activation_spec.check(observation.activations, "observed activations")
        self._knowledge.activation_spec.check(sightings.flatten(0, 1), "repeatedly observed activations")
        return self._knowledge, sightings

    def __repr__(self) -> str:
        return f"{self.name}({', '.join(f'{k}={v}' for k, v in self.settings.model_dump().items())})"


class ActivationAttack(Attack):
    """Rebuilds inputs. A subclass writes `_reconstruct`, and `_prepare` if it learns something beforehand.

    Of an input that was sent repeatedly, `_reconstruct` gets the average of what was seen; an attack that makes more of
    it writes `_reconstruct_repeated`.
    """

    @final
    def reconstruct(self, observation: Observation) -> Tensor:
        """Reconstructions (N, C, H, W), float32, clipped to the input's range, one for each observed activation.

        Raises:
            RuntimeError: `prepare` was not called.
        """
        knowledge, sightings = self._sightings(observation)
        images = self._reconstruct_repeated(knowledge, sightings, self._generator).detach()
        spec = knowledge.input_spec
        low, high = (0.0 if spec.low is None else spec.low), (1.0 if spec.high is None else spec.high)
        # An attacker with broken numbers still has to answer; the middle of the range is what it knows then.
        return images.float().nan_to_num(nan=(low + high) / 2).clamp(low, high)

    def _reconstruct_repeated(self, knowledge: Knowledge, sightings: Tensor, generator: torch.Generator) -> Tensor:
        """Reconstruct (N, C, H, W) from all that was seen of each input: (N, repeats, *shape)."""
        return self._reconstruct(knowledge, average(sightings), generator)

    @abstractmethod
    def _reconstruct(self, knowledge: Knowledge, activations: Tensor, generator: torch.Generator) -> Tensor:
        """Reconstruct (N, C, H, W) from activations (N, *shape)."""


def granted(knowledge: Knowledge, attack: type[Attack]) -> Knowledge:
    """The part of `knowledge` that an attack asks for: an attack that claims to need less gets no more."""
    withheld = {field: None for need, field in FIELDS.items() if need not in attack.wants()}
    return Knowledge(**{**knowledge.__dict__, **withheld})
