"""One run of a hosted model: one defense after another, each with a record of its own."""

from __future__ import annotations

import contextlib
import functools
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from experiments.hosting.crew import hosting_crew
from experiments.hosting.picture_stage import PictureStage
from experiments.hosting.record import KIND, write_host_record
from experiments.hosting.scenario import HostScenario, PictureScenario
from experiments.hosting.stage import Stage
from experiments.hosting.table_stage import TableStage
from experiments.hosting.trial import play_hosting
from experiments.record import pictures_path, record_path, write_manifest
from experiments.roles import torch_threads
from experiments.scenario import Named
from split_models.checkpoints import save_tensors

Say = Callable[[str, float], None]
"""Told which step is under way and which fraction of it, in [0, 1], is done."""


def run_hosting(
    scenario: HostScenario | PictureScenario, folder: Path, data_dir: Path | None, say: Say, fresh: bool = False
) -> Iterator[tuple[Named, bool]]:
    """Run every defense that has no record yet; yields each with whether it was there already."""
    keys = [scenario.key(defense) for defense in scenario.defenses]
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=".scratch-", dir=folder)))
        stage = stage_of(scenario, scratch, data_dir)
        write_manifest(folder, scenario.name, keys, kind=KIND)
        missing = [key for key in keys if fresh or not record_path(folder, key).exists()]
        if missing:  # else no party is needed
            crew = stack.enter_context(hosting_crew(scenario.transport, folder / "logs"))
            stage.hand_out()
        for defense, key in zip(scenario.defenses, keys, strict=True):
            if key in missing:
                with torch_threads(1):  # whatever the machine, so that results do not depend on it
                    record, pictures = play_hosting(stage, defense, key, crew, functools.partial(_tell, say, defense))
                if pictures:
                    save_tensors(pictures_path(folder, key), pictures)
                write_host_record(folder, record)
            yield defense, key not in missing


def stage_of(scenario: HostScenario | PictureScenario, scratch: Path, data_dir: Path | None) -> Stage:
    """The data of a scenario, divided among its parties.

    Raises:
        DataError: data are missing, broken or too few.
    """
    if isinstance(scenario, PictureScenario):
        return PictureStage(scenario, scratch, data_dir)
    return TableStage(scenario, scratch, data_dir)


def _tell(say: Say, defense: Named, step: str, fraction: float) -> None:
    say(f"{defense.label}: {step}", fraction)
