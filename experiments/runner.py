"""One run: train the target, let the parties play every trial, judge as the referee, write records."""

from __future__ import annotations

import contextlib
import functools
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from defenses import make_defense
from experiments.auxiliary import packed
from experiments.crew import Crew, assembled
from experiments.lanes import in_lanes
from experiments.readings import check_secrets
from experiments.record import Record, read_record, record_path, write_manifest, write_record
from experiments.referee import Referee
from experiments.roles import torch_threads
from experiments.scenario import Scenario, Trial, check_against_data
from experiments.target import Guarded, Target, cached_evaluator, cached_target, guarded_target
from experiments.trial import play
from parties.datasets import load
from parties.datasets.dataset import LabelledImages, RawData, partition
from split_models.checkpoints import save_tensors
from split_models.randomness import seed_for

Say = Callable[[int, str, float], None]
"""Told by each lane, from 0, which step is under way and which fraction of it, in [0, 1], is done."""


@dataclass(frozen=True)
class Prepared:
    """What all trials of a run share."""

    raw: RawData
    parts: dict[str, LabelledImages]
    duplicates: int
    target: Target  # trained without a defense
    evaluator: nn.Module


def run(
    scenario: Scenario,
    folder: Path,
    data_dir: Path | None = None,
    say: Say = lambda lane, step, fraction: None,
    fresh: bool = False,
    workers: int = 1,
) -> Iterator[tuple[Trial, Record, bool]]:
    """Run every trial of a scenario; yields each, as it is done, with its record and whether that was there already.

    A finished trial's record is kept under a hash of all that could change it, so a run that was interrupted goes on
    where it stopped; `fresh` computes all again. With several `workers` so many trials run at once, each with
    processes of its own; in-process runs have one.

    Raises:
        ScenarioError, DataError: before anything starts.
        PartyError: a party died; records written until then stay.
    """
    raw = load(scenario.data.name, data_dir)
    check_against_data(scenario, raw.input_spec, len(raw.classes))
    check_secrets(scenario, raw.attributes)
    trials = list(scenario.trials())
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, scenario.name, [trial.key for trial in trials])
    missing = [trial for trial in trials if fresh or not record_path(folder, trial.key).exists()]
    for trial in trials:
        if trial not in missing:
            yield trial, read_record(record_path(folder, trial.key)), True
    if not missing:
        return
    owners = [f"owner-{number}" for number in range(1, scenario.owners.count + 1)]
    lanes = 1 if scenario.transport == "in-process" else max(1, min(workers, len(missing)))
    with scratch_folder(folder) as scratch, contextlib.ExitStack() as stack:
        logs = [folder / "logs" / f"lane-{lane}" for lane in range(lanes)]
        crews = [stack.enter_context(assembled(scenario.transport, owners, path)) for path in logs]
        prepared = prepare(scenario, folder, raw, functools.partial(say, 0))
        targets = {trial.key: target_of(trial, prepared, folder, functools.partial(say, 0)) for trial in missing}
        hand_out(scratch, prepared.parts, owners)

        def one(lane: int, trial: Trial) -> Record:
            place = scratch / f"lane-{lane}"
            place.mkdir(exist_ok=True)
            return one_trial(
                trial, prepared, targets[trial.key], crews[lane], owners, place, folder, functools.partial(say, lane)
            )

        for trial, record in in_lanes(missing, lanes, one):
            yield trial, record, False


def prepare(scenario: Scenario, folder: Path, raw: RawData, say: Callable[[str, float], None]) -> Prepared:
    """Divide the data, and train or find in `folder` what all trials of a scenario share.

    Raises:
        DataError: there are too few images for the parts.
    """
    parts, duplicates = partition(raw, scenario.data.sizes, seed_for(scenario.seed, "partition"))
    classes = len(raw.classes)
    with torch_threads(scenario.threads):
        step = f"training {scenario.model.name}"
        say(step, 0.0)
        report = functools.partial(say, step)
        target = cached_target(scenario, parts["train"], raw.input_spec, classes, folder, report)
        say("training the independent classifier", 0.0)
        evaluator = cached_evaluator(scenario, parts["train"], classes, folder)
    return Prepared(raw, parts, duplicates, target, evaluator)


def target_of(trial: Trial, prepared: Prepared, folder: Path, say: Callable[[str, float], None]) -> Target:
    """The network that a trial attacks: the shared one, unless its defense learns something or shapes the network."""
    defense = make_defense(trial.defense.name, trial.defense.settings)
    if not (defense.trains or defense.fits):
        return prepared.target
    step = f"training {defense!r} at {trial.cut}"
    say(step, 0.0)
    report, where = functools.partial(say, step), Guarded(defense, trial.cut)
    with torch_threads(trial.scenario.threads):
        return guarded_target(trial.scenario, where, prepared.target, prepared.parts["train"], folder, report)


def hand_out(scratch: Path, parts: dict[str, LabelledImages], owners: list[str]) -> None:
    """Write what each party may hold: an owner its share of the victims, the attacker its auxiliary images."""
    for position, owner in enumerate(owners):
        save_tensors(scratch / f"{owner}.safetensors", {"images": parts["victims"].images[position :: len(owners)]})
    save_tensors(scratch / "auxiliary.safetensors", packed(parts["auxiliary"], parts["validation"]))


def one_trial(
    trial: Trial,
    prepared: Prepared,
    target: Target,
    crew: Crew,
    owners: list[str],
    place: Path,
    folder: Path,
    say: Callable[[str, float], None],
) -> Record:
    """Let a crew play one trial, judge it, and write its record and pictures below `folder`.

    `place` is the crew's own scratch folder, below the one that `hand_out` filled.
    """
    start = time.perf_counter()
    checkpoints = target.save_parts(place, trial.cut)
    played = play(trial, crew, owners, checkpoints, place, folder / "learnt", say)
    say(f"{trial.label}: judging", 0.0)
    referee = Referee(trial, prepared.parts, target, prepared.target, prepared.evaluator, owners)
    facts: dict[str, Any] = {
        "name": prepared.raw.name,
        "classes": len(prepared.raw.classes),
        "input_shape": list(prepared.raw.input_spec.shape),
        "sizes": trial.scenario.data.sizes,
        "duplicates_dropped": prepared.duplicates,
        "shareable": prepared.raw.shareable,
        **({"credit": prepared.raw.credit} if prepared.raw.credit else {}),
        **({"among_inputs": list(prepared.raw.among_inputs)} if prepared.raw.among_inputs else {}),
    }
    record = referee.judge(played, facts, folder, started=start)
    write_record(folder, record)
    return record


@contextlib.contextmanager
def scratch_folder(folder: Path) -> Iterator[Path]:
    """A private folder for what parties are handed; it is gone at the end of the run."""
    path = Path(tempfile.mkdtemp(prefix=".scratch-", dir=folder))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)
