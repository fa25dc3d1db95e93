"""Small trainings with real processes, and what may happen to these."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import torch

from experiments.training.record import TrainingRecord
from experiments.training.runner import train
from experiments.training.scenario import read_training_scenario
from split_models.checkpoints import load_tensors
from tests.experiments.runs import parties_of

Deed = Callable[[int], None]
SETTINGS = [
    "rounds=2",
    "data.train=160",
    "data.test=20",
    "model.batch_size=8",
    "owners.checkpoint_batches=6",
    "server.transcript_mb=1",
    "defense={name='gaussian_noise',sigma=0.2}",
]

SMALL = ("data.train=64", "owners.count=2", "owners.checkpoint_batches=2", "defense={name='none'}")
"""What makes them smaller still, with two owners."""


def settings(*more: str) -> list[str]:
    """The settings of every training here, and more."""
    return [*SETTINGS, *more]


def run(
    folder: Path, *more: str, name: str = "train-vanilla", report: Callable[[str, float], None] | None = None
) -> TrainingRecord:
    found, _ = train(read_training_scenario(name, settings(*more)), folder, report=report or (lambda owner, done: None))
    return found


def models(folder: Path) -> dict[str, torch.Tensor]:
    """All trained layers by file and name."""
    paths = sorted((folder / "models").glob("*.safetensors"))
    return {f"{path.stem} {name}": tensor for path in paths for name, tensor in load_tensors(path)[0].items()}


def same_models(first: Path, second: Path) -> bool:
    """Bit for bit."""
    one, other = models(first), models(second)
    return bool(one) and one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Saboteur:
    """Does something to parties while owners report what they have played of a round, each thing once.

    Args:
        plan: the owner that reports and the fraction it has reached; what happens then, and to whom.
        parties: how many processes there are.
    """

    def __init__(self, logs: Path, plan: dict[tuple[str, float], tuple[Deed, str]], parties: int = 2) -> None:
        self._logs, self.plan, self._parties = logs, dict(plan), parties

    def __call__(self, owner: str, done: float) -> None:
        for (reporting, when), (deed, victim) in list(self.plan.items()):
            if owner == reporting and done >= when:
                del self.plan[reporting, when]
                deed(parties_of(self._logs, self._parties, within_s=20)[victim])
                return


def kill(process: int) -> None:
    """End it without a word, and see to it that it has ended."""
    os.kill(process, signal.SIGKILL)
    with contextlib.suppress(FileNotFoundError):
        while _state(process) != "Z" or len(list(Path(f"/proc/{process}/task").iterdir())) > 1:
            time.sleep(0.01)


def _state(process: int) -> str:
    return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]


def stop(process: int) -> None:
    """Let it be silent, and live."""
    os.kill(process, signal.SIGSTOP)


def small(folder: Path, name: str, *more: str, report: Saboteur | None = None) -> list[str]:
    """A training of two owners; what went wrong in it, and what was done about it."""
    record = run(folder, *SMALL, *more, name=name, report=report)
    return [f"{event.owner}: {event.answer}" for event in record.events]
