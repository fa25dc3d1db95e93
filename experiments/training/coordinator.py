"""Whose turn it is, what happens to heads between turns, and what to do about an owner that fails."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from experiments.training.crew import SERVER, TrainingCrew
from experiments.training.journal import Journal, outcome
from experiments.training.record import Round
from experiments.training.scenario import TrainingScenario
from parties.processes import PartyError
from parties.protocols.protocol import Heads
from parties.training.learner import WEIGHTS, federated_average
from parties.training.server import SHARED
from split_models.checkpoints import load_tensors, save_tensors
from split_models.randomness import generator_for


class Coordinator:
    """Leads a training from wherever its journal says it is to its end.

    It sees owners' layers between their turns, as whoever averages or passes them on does, and no data.

    Args:
        folder: for heads and the journal.
    """

    def __init__(self, scenario: TrainingScenario, crew: TrainingCrew, journal: Journal, folder: Path) -> None:
        self._scenario, self._crew, self._journal, self._folder = scenario, crew, journal, folder
        self._protocol, self._names = scenario.protocol_class, tuple(scenario.owner_names)
        self._writing = threading.Lock()
        branches = self._names if self._protocol.tail_per_owner else (SHARED,)
        self._journal.positions = dict.fromkeys(branches, 0) | self._journal.positions

    def run(self, say: Callable[[Round], None]) -> None:
        """Play every round that is left.

        Raises:
            PartyError: an owner failed and the policy does not allow to go on without it, or owners that have to hold
                the same samples do not.
        """
        if self._protocol.meets:
            self._check_ids()
        while self._journal.round < self._scenario.rounds:
            start = time.perf_counter()
            self._play_round()
            self._finish_round(start)
            say(self._journal.rounds[-1])

    def _check_ids(self) -> None:
        first, *others = self._names
        begun = self._crew.begun
        count = {name: begun[name]["samples"] for name in self._names}
        if different := [name for name in others if begun[name]["ids"] != begun[first]["ids"]]:
            raise PartyError(
                f"expected the same sample ids from all owners, got others from {', '.join(different)} than "
                f"from {first} ({count[different[0]]} samples beside {count[first]}); align the data"
            )

    def _play_round(self) -> None:
        left = [n for n in self._order() if n not in self._journal.ended and n not in self._journal.left_out]
        if self._protocol.turns:
            for name in left:
                self._turn(name)
        elif self._protocol.meets:
            self._meeting(tuple(left))
        elif left:
            self._crew.all_at_once(self._turn, tuple(left))

    def _order(self) -> list[str]:
        """Who comes when; in some protocols in another order every round."""
        if not self._protocol.random_order:
            return list(self._names)
        generator = generator_for(self._scenario.seed, "order of owners", self._journal.round)
        return [self._names[index] for index in torch.randperm(len(self._names), generator=generator)]

    def _turn(self, name: str) -> None:
        answered = self._in_spite_of_failures(name, lambda: self._train(name, self._kept(name)))
        with self._writing:
            if answered is None:
                self._journal.left_out.append(name)
            else:
                self._note(name, answered)
                if self._protocol.heads is Heads.PASSED_ON:
                    self._journal.head = self._output(name).name
            self._journal.save(self._folder)

    def _meeting(self, names: tuple[str, ...]) -> None:
        """All owners at once, from the latest point that all of them have kept."""
        if not names:
            return

        def together() -> list[dict[str, Any]]:
            for name in names:
                self._crew.ensure(name)
            common = set.intersection(*({0, *self._kept_batches(name)} for name in names))
            found: list[dict[str, Any]] = self._crew.together(lambda name: self._train(name, max(common)), names)
            return found

        answers = self._in_spite_of_failures(", ".join(names), together)
        for name, answered in zip(names, answers or [], strict=True):
            self._note(name, answered)
        self._journal.save(self._folder)

    def _train(self, name: str, at_batch: int) -> dict[str, Any]:
        head = self._journal.head
        answered: dict[str, Any] = self._crew.ask(
            name,
            "train",
            address=self._crew.server_address(),
            round_number=self._journal.round,
            position=self._journal.positions[self._branch(name)],
            at_batch=at_batch,
            head=str(self._folder / "heads" / head) if head else None,
            output=str(self._output(name)),
        )
        return answered

    def _note(self, name: str, answered: dict[str, Any]) -> None:
        self._journal.ended[name] = outcome(answered)
        self._journal.positions[self._branch(name)] = answered["position"]

    def _kept(self, name: str) -> int:
        self._crew.ensure(name)
        return max(self._kept_batches(name), default=0)

    def _kept_batches(self, name: str) -> list[int]:
        kept = self._crew.begun[name]["kept"]
        return [progress["batch"] for progress in kept if progress["round"] == self._journal.round]

    def _in_spite_of_failures(self, who: str, what: Callable[[], Any]) -> Any:
        """Do something by the owners' policy; None where the owner is left out."""
        owners = self._scenario.owners
        for attempt in range(owners.restarts + 1):
            try:
                self._crew.server_address()
                return what()
            except PartyError as error:
                server_is_gone = not self._crew.alive(SERVER)
                if owners.policy == "skip" and not server_is_gone:
                    self._note_failure(who, error, "left out of this round")
                    return None
                if owners.policy == "abort" or attempt == owners.restarts:
                    self._note_failure(who, error, "training stopped")
                    raise
                self._note_failure(who, error, "started again")
        return None

    def _note_failure(self, who: str, error: PartyError, answer: str) -> None:
        with self._writing:
            self._journal.note(who, str(error), answer)
            self._journal.save(self._folder)

    def _finish_round(self, start: float) -> None:
        """Average what is to be averaged, measure, and turn the page."""
        journal = self._journal
        if not journal.ended:
            raise PartyError(f"no owner was left in round {journal.round + 1}; see the logs, then train again")
        samples = {name: self._crew.begun[name]["samples"] for name in sorted(journal.ended)}
        if self._protocol.heads is Heads.AVERAGED:
            self._average_heads(samples)
        if self._protocol.tail_per_owner:
            self._in_spite_of_failures(
                SERVER,
                lambda: self._crew.ask(
                    SERVER, "average", round_number=journal.round, samples=samples, positions=journal.positions
                ),
            )
        self._evaluate()
        tested = [owner for owner in journal.ended.values() if owner.right is not None]
        accuracy = sum(o.right or 0 for o in tested) / max(sum(o.tested for o in tested), 1)
        journal.rounds.append(Round(owners=journal.ended, left_out=journal.left_out, accuracy=accuracy))
        journal.round, journal.ended, journal.left_out = journal.round + 1, {}, []
        journal.seconds += time.perf_counter() - start
        journal.save(self._folder)
        self._tidy()

    def _average_heads(self, samples: dict[str, int]) -> None:
        heads = []
        for name in samples:
            tensors, _ = load_tensors(self._output(name))
            heads.append({key: value for key, value in tensors.items() if key.startswith(WEIGHTS)})
        path = self._folder / "heads" / f"{self._journal.round:06}-average.safetensors"
        save_tensors(path, federated_average(heads, list(samples.values())))
        self._journal.head = path.name

    def _evaluate(self) -> None:
        """Each owner that took part measures on its own test images; where they meet, all at once."""
        names = tuple(sorted(self._journal.ended))
        head = self._journal.head

        def evaluate(name: str) -> Any:
            self._crew.ensure(name)
            return self._crew.ask(
                name,
                "evaluate",
                address=self._crew.server_address(),
                round_number=self._journal.round,
                position=self._journal.positions[self._branch(name)],
                head=str(self._folder / "heads" / head) if head else None,
            )

        def by_policy(name: str) -> Any:
            return self._in_spite_of_failures(name, lambda: evaluate(name))

        if self._protocol.meets:
            answers = self._in_spite_of_failures(", ".join(names), lambda: self._crew.together(evaluate, names))
        else:
            answers = [by_policy(name) for name in names]
        for name, answered in zip(names, answers, strict=True):
            if answered is not None:
                self._journal.ended[name].right, self._journal.ended[name].tested = (
                    answered["right"],
                    answered["samples"],
                )

    def _branch(self, name: str) -> str:
        return name if self._protocol.tail_per_owner else SHARED

    def _output(self, name: str) -> Path:
        return self._folder / "heads" / f"{self._journal.round:06}-{name}.safetensors"

    def _tidy(self) -> None:
        """Heads of rounds before the last are of no use any more."""
        for path in (self._folder / "heads").glob("??????-*.safetensors"):
            if int(path.name[:6]) < self._journal.round - 1:
                path.unlink()
