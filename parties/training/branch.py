"""One copy of the server's layers in training: what it has learnt, what it still holds, how it is kept on disk."""

from __future__ import annotations

import re
import threading
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from parties.messages import WireError
from parties.training.backward import Afterwards, input_gradients
from parties.training.learner import Learner
from split_models.checkpoints import load_tensors, save_tensors

KEPT = 2  # checkpoints of each sort: an owner may have died before it wrote what belongs to the latest
MOST_HELD = 16  # micro-batches whose second exchange, or whose gradients, are put off
NAME = re.compile(r"(\d{12})(\.turn)?\.safetensors")


class Branch:
    """Layers with their optimiser; sessions use it one at a time, under `lock`.

    Its weights' gradients, and a step once a batch is complete, are owed: they are computed after the reply is out,
    while the owner goes back through its own layers, or by whatever touches the weights before that: the arithmetic is
    the same.

    Args:
        learner: its one part is the server's layers.
        classes: how many labels there are.
        folder: where its checkpoints are kept; None keeps none.
    """

    def __init__(self, learner: Learner, classes: int, folder: Path | None) -> None:
        self.learner, self.classes, self._folder = learner, classes, folder
        self.lock = threading.Lock()
        self._seen = 0  # samples of the batch under way
        self._held: deque[tuple[Tensor, Tensor, Tensor]] = deque()
        self._owed: deque[Afterwards] = deque()  # gradients of the batch under way
        self._complete = False  # is that batch?
        self._stepping = threading.Lock()

    @property
    def layers(self) -> nn.Module:
        """The server's layers, with every step taken."""
        self.settle()
        (part,) = self.learner.parts.values()
        return part

    @property
    def position(self) -> int:
        """How many batches it has learnt from."""
        self.settle()
        return self.learner.position

    def settle(self) -> None:
        """Take the step that is owed, if a batch is complete; any thread may call this."""
        with self._stepping:
            if self._complete:
                self._gather()
                self._complete = False
                self.learner.step()

    def _gather(self) -> None:
        while self._owed:
            self._owed.popleft()()

    def learn(self, output: Tensor, inputs: Sequence[Tensor], gradient: Tensor | None = None) -> tuple[Tensor, ...]:
        """Go back from `output` to `inputs`, whose gradients it returns; those of the weights are owed."""
        if len(self._owed) >= MOST_HELD:
            self._gather()
        gradients, afterwards = input_gradients(output, inputs, gradient)
        self._owed.append(afterwards)
        return gradients

    def share(self, count: int, whole: Tensor) -> float:
        """Which share of a batch of `whole` (1,) samples so many are.

        Raises:
            WireError: more samples than the batch has.
        """
        if len(whole) != 1 or not 0 < self._seen + count <= int(whole):
            raise WireError(f"expected at most {whole.tolist()} samples in a batch, got {self._seen + count}")
        return count / int(whole)

    def learnt_from(self, count: int, whole: Tensor) -> None:
        """So many more samples of a batch have left their gradients; after the last of them a step is owed."""
        self._seen += count
        if self._seen == int(whole):
            self._seen, self._complete = 0, True

    def hold(self, activation: Tensor, features: Tensor, whole: Tensor) -> None:
        """Keep a forward pass until its gradient comes.

        Raises:
            WireError: too many are kept already.
        """
        if len(self._held) >= MOST_HELD:
            raise WireError(f"expected a gradient after at most {MOST_HELD} forward passes; use fewer micro-batches")
        self._held.append((activation, features, whole))

    def held(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """The oldest forward pass that was kept: activation, features, samples in its whole batch.

        Raises:
            WireError: there is none with so many samples.
        """
        if not self._held or len(self._held[0][0]) != count:
            raise WireError(
                f"expected the gradient of a forward pass, got one of {count} samples without; send FORWARD"
            )
        return self._held.popleft()

    def infer(self, activation: Tensor) -> Tensor:
        """The layers' output without learning."""
        layers = self.layers.eval()
        try:
            with torch.no_grad():
                output: Tensor = layers(activation)
        finally:
            layers.train()
        return output

    def drop_unfinished(self) -> None:
        """Forget a batch that was not finished."""
        self.settle()
        self._seen = 0
        self._held.clear()
        self._owed.clear()
        self.learner.forget_gradients()

    def resume(self, position: int) -> None:
        """Be again as after so many batches, if need be from a checkpoint.

        Raises:
            WireError: no checkpoint is that old, or that young.
        """
        self.drop_unfinished()
        if self.position == position:
            return
        kept = dict(self._kept())
        if position not in kept:
            there = ", ".join(map(str, sorted({self.position, *kept})))
            raise WireError(f"expected to go on after {there} batches, got {position}; start this training anew")
        self.learner.load(load_tensors(kept[position])[0], position)
        for at, path in kept.items():
            if at > position:  # of a turn that was given up
                path.unlink(missing_ok=True)

    def checkpoint(self, position: int, end_of_turn: bool) -> None:
        """Keep this state on disk, beside the one before.

        Raises:
            WireError: it is at another position.
        """
        if self.position != position:
            raise WireError(f"expected a checkpoint after {self.position} batches, got {position}")
        if self._folder is None:
            return
        ending = ".turn.safetensors" if end_of_turn else ".safetensors"
        save_tensors(self._folder / f"{position:012}{ending}", self.learner.state())
        for sort in (True, False):
            files = sorted(path for _, path in self._kept() if path.name.endswith(".turn.safetensors") is sort)
            for path in files[:-KEPT]:
                path.unlink(missing_ok=True)

    def _kept(self) -> list[tuple[int, Path]]:
        if self._folder is None or not self._folder.is_dir():
            return []
        matches = [(NAME.fullmatch(path.name), path) for path in sorted(self._folder.iterdir())]
        return [(int(match[1]), path) for match, path in matches if match]
