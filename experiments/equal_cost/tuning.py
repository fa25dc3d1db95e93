"""Tuning: strengths are found with seeds, and on images, that are not among those reported."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

from defenses import DefenseError, make_defense
from experiments.equal_cost.strengths import DROPS, NEAR, STRENGTHS, Found, tuned
from experiments.lanes import in_lanes
from experiments.roles import torch_threads
from experiments.runner import Say
from experiments.scenario import Named, Scenario, hash_of
from experiments.target import Guarded, Target, cached_target, defended, guarded_target
from parties.datasets import load
from parties.datasets.dataset import LabelledImages, partition
from parties.processes import Parties
from split_models.checkpoints import write_atomically
from split_models.randomness import seed_for
from split_models.training import accuracy


@dataclass(frozen=True)
class Plan:
    """What tuning is asked for: a scenario with one cut, the seeds to tune with, and bisections a drop."""

    scenario: dict[str, Any]
    seeds: tuple[int, ...]
    steps: int

    def path(self, folder: Path, name: str) -> Path:
        """Where what was found for a defense is kept, under a hash of all that could change it."""
        scenario = Scenario.model_validate(self.scenario)
        content = [scenario.key("data", "model", "cuts"), self.seeds, self.steps, DROPS, NEAR, asdict(STRENGTHS[name])]
        return folder / "tuning" / f"{hash_of(content)}.json"


@dataclass(frozen=True)
class _Seed:
    scenario: Scenario
    train: LabelledImages
    tuning: LabelledImages
    bare: Target


class Tuner:
    """Measures what defenses cost on the tuning part, on average over the tuning seeds; networks stay in `folder`."""

    def __init__(self, plan: Plan, folder: Path, data_dir: Path | None) -> None:
        self._plan, self._folder = plan, folder
        first = Scenario.model_validate(plan.scenario)
        raw = load(first.data.name, data_dir)
        self._seeds = []
        for seed in plan.seeds:
            scenario = first.model_copy(update={"seed": seed})
            parts, _ = partition(raw, scenario.data.sizes, seed_for(seed, "partition"))
            with torch_threads(scenario.threads):
                bare = cached_target(scenario, parts["train"], raw.input_spec, len(raw.classes), folder)
            self._seeds.append(_Seed(scenario, parts["train"], parts["tuning"], bare))

    def tune(self, name: str, report: Callable[[float], None]) -> Found:
        """Find the strengths of one of `STRENGTHS`.

        Raises:
            DefenseError: it does not fit the cut, or needs a library that is not there.
        """
        most, done = len(DROPS) * self._plan.steps + 2, 0

        def cost(entry: Named) -> float:
            nonlocal done
            done += 1
            report(min(0.99, done / most))
            return self.cost(entry)

        return tuned(STRENGTHS[name], DROPS, cost, self._plan.steps)

    def cost(self, entry: Named) -> float:
        """How much accuracy a defense costs, as a fraction."""
        costs = [self._cost(seed, entry) for seed in self._seeds]
        return sum(costs) / len(costs)

    def _cost(self, seed: _Seed, entry: Named) -> float:
        scenario, target, cut = seed.scenario, seed.bare, seed.scenario.cuts[0]
        defense = make_defense(entry.name, entry.settings)
        with torch_threads(scenario.threads):
            if defense.trains or defense.fits:
                guarded = Guarded(defense, cut)
                target = guarded_target(scenario, guarded, seed.bare, seed.train, self._folder, lambda fraction: None)
            network = defended(target, cut, entry.name, entry.settings, scenario.seed)
            left = accuracy(network, seed.tuning.images, seed.tuning.labels)
            return accuracy(seed.bare.network, seed.tuning.images, seed.tuning.labels) - left


def tune_all(
    plan: Plan, names: Sequence[str], folder: Path, data_dir: Path | None, say: Say, workers: int = 1
) -> Iterator[tuple[str, Found | str]]:
    """Tune every named defense in processes of their own; yields each with what was found, or why it was not tuned.

    What is found is kept at once, so an interrupted tuning goes on where it stopped.

    Raises:
        PartyError: a tuning process died or failed.
    """
    missing = [name for name in names if not plan.path(folder, name).exists()]
    yield from ((name, _read(plan.path(folder, name))) for name in names if name not in missing)
    lanes = min(workers, len(missing))
    with ExitStack() as stack:
        crews = [stack.enter_context(Parties("experiments.equal_cost.worker", folder / "logs")) for _ in range(lanes)]

        def one(lane: int, name: str) -> Found | str:
            party = f"tuner-{lane}"
            if not crews[lane].alive(party):
                crews[lane].start("tuner", party)
            arguments = {"name": name, "plan": asdict(plan), "folder": str(folder), "data_dir": _text(data_dir)}
            say(lane, f"tuning {name}", 0.0)
            crews[lane].ask({party: ("tune", arguments)}, report=partial(_pass_on, say, lane, f"tuning {name}"))
            return _read(plan.path(folder, name))

        yield from in_lanes(missing, lanes, one)


def tune_one(tuner: Tuner, name: str, path: Path, report: Callable[[float], None]) -> None:
    """Tune one defense and keep what was found, or why it cannot be tuned."""
    try:
        found = tuner.tune(name, report)
    except DefenseError as error:
        content: Mapping[str, Any] = {"skipped": str(error)}
    else:
        content = {"chosen": {str(drop): table for drop, table in found.chosen.items()}, "costs": found.costs}
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())


def _read(path: Path) -> Found | str:
    content = json.loads(path.read_bytes())
    if "skipped" in content:
        return str(content["skipped"])
    return Found({float(drop): table for drop, table in content["chosen"].items()}, content["costs"])


def _text(path: Path | None) -> str | None:
    return str(path) if path else None


def _pass_on(say: Say, lane: int, step: str, party: str, fraction: float) -> None:
    say(lane, step, fraction)
