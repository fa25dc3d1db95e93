"""Label inference by whoever has the rest of the network: its answer is what the task says."""

from __future__ import annotations

import torch
from torch import Tensor

from attacks.attack import AttackRefused
from attacks.knowledge import LABEL, Capability, Knowledge
from attacks.reading import Reading


class TailAnswers(Reading):
    """Lets the server's own half answer: a reading of the task's label that costs nothing and needs no images.

    It is what any other reading of the label has to be compared with.
    """

    name = "tail_answers"
    requires = frozenset({Capability.TAIL})

    def _prepare(self, knowledge: Knowledge, generator: torch.Generator) -> None:
        if self.settings.secret != LABEL:
            raise AttackRefused(f"{self.name} reads the task's label alone, got secret {self.settings.secret!r}")

    def _read(self, knowledge: Knowledge, activations: Tensor, generator: torch.Generator) -> Tensor:
        assert knowledge.tail is not None
        tail = knowledge.tail
        self.progress(0.5)
        with torch.no_grad():
            return torch.cat([tail(group) for group in activations.split(256)])
