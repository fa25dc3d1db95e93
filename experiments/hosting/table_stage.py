"""A table's rows: what trained the model, whom its customers attack, and how a sensitive column is judged."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from attacks.output_attack import Access, Goal
from defenses.fitting_defense import FittingDefense
from experiments.hosting.baselines import baselines
from experiments.hosting.halves import divide, performance_of
from experiments.hosting.judging import table_doubts
from experiments.hosting.record import PARTS, Figures, HostedAttack, HostedUtility
from experiments.hosting.scenario import HostScenario
from experiments.hosting.stage import HOSTED, PLAIN, Stage
from experiments.metrics.attribute import summarised
from experiments.scenario import Named
from parties.datasets import load_table
from parties.hosted_model import HostedModel, load_hosted
from split_models.checkpoints import save_tensors
from split_models.randomness import generator_for
from split_models.tabular.checkpoint import save_tabular
from split_models.tabular.fitting import Fitting, fit


class TableStage(Stage):
    """Rows that trained the model and rows that did not, each attacked."""

    scenario: HostScenario

    def __init__(self, scenario: HostScenario, scratch: Path, data_dir: Path | None) -> None:
        super().__init__(scenario, scratch)
        self.table = table = load_table(scenario.table.name, data_dir)
        self.train, self.held_out = divide(table, scenario.table.train, generator_for(scenario.seed, "halves"))
        self.dataset = {"name": table.name, "train": len(self.train), "held_out": len(self.held_out)}
        self.truth = table.targets[self.held_out]

    @functools.cached_property
    def victims(self) -> dict[str, Tensor]:
        """Numbers of those who are attacked, by part."""
        most = self.scenario.table.victims
        pairs = zip(PARTS, (self.train, self.held_out), strict=True)
        # A random draw of each part, always the same one.
        chosen = {
            p: rows[torch.randperm(len(rows), generator=generator_for(self.scenario.seed, p))] for p, rows in pairs
        }
        return {part: rows[:most] for part, rows in chosen.items()}

    @functools.cached_property
    def floors(self) -> dict[str, dict[str, Figures]]:
        """A coin, the mode, imputation, and the most there is to know."""
        table, floors = self.table, dict[str, dict[str, Figures]]()
        for part, others in zip(PARTS, (self.held_out, self.train), strict=True):
            coin = generator_for(self.scenario.seed, "coin", part)
            for name, guess in baselines(table, self.victims[part], others, self.scenario.model.growth, coin).items():
                floors.setdefault(name, {})[part] = self.judge(part, guess)
        return floors

    def hand_out(self) -> None:
        """The host gets its training rows, the attacker marginals and victims' rows with the secret blanked."""
        table, scratch = self.table, self.scratch
        save_tensors(scratch / "marginals", {str(n): values for n, values in enumerate(table.marginals())})
        for part, rows in self.victims.items():
            known = table.rows[rows].clone()
            known[:, table.sensitive] = 0
            save_tensors(scratch / f"victims {part}", {"known": known, "labels": table.targets[rows]})
        save_tensors(scratch / "own", {"inputs": table.rows[self.train]})
        save_tensors(scratch / "asked", {"inputs": table.rows[self.held_out]})

    def fit(self, defense: FittingDefense | None) -> None:
        """And how the hosted model errs on its training rows, as its operator would publish it."""
        table, task = self.table, self._task()
        # The same draws for both, so that what differs is the defense.
        plain = fit(task, generator_for(self.scenario.seed, "target"))
        hosted = defense.fit(task, generator_for(self.scenario.seed, "target")) if defense else plain
        save_tabular(self.scratch / PLAIN, plain)
        save_tabular(self.scratch / HOSTED, hosted)
        told = _as_told(load_hosted(self.scratch / HOSTED), table.rows[self.train])
        performance = performance_of(told, table.targets[self.train], len(table.classes))
        save_tensors(self.scratch / "performance", {"performance": performance})

    def _task(self) -> Fitting:
        table, model = self.table, self.scenario.model
        rows, targets = table.rows[self.train], table.targets[self.train]
        return Fitting(
            model.kind,
            table.columns,
            rows,
            targets,
            len(table.classes),
            table.sensitive,
            growth=model.growth,
            ridge=model.ridge,
            network=model.network,
        )

    def parts(self, goal: Goal) -> Sequence[str]:
        """Training and held-out rows, whatever the attack."""
        return PARTS

    def documented(self) -> dict[str, Any]:
        """Columns with their levels, and which of them is sensitive."""
        table = self.table
        return {
            "input_spec": {"shape": [len(table.columns)]},
            "classes": len(table.classes),
            "columns": [[column.name, list(column.levels)] for column in table.columns],
            "sensitive": table.sensitive,
        }

    def offered(self, queries: int) -> dict[Access, Any]:
        """Everything but explanations and auxiliary samples."""
        return {
            Access.QUERIES: queries,
            Access.WEIGHTS: True,
            Access.MARGINALS: str(self.scratch / "marginals"),
            Access.PERFORMANCE: str(self.scratch / "performance"),
        }

    def judge(self, part: str, found: Tensor) -> Figures:
        """Levels (N,) against the true ones."""
        truth = self.table.rows[self.victims[part], self.table.sensitive].long()
        return summarised(found, truth, self.table.positive)

    def doubts(self, attacks: Sequence[HostedAttack], utility: HostedUtility, defense: Named) -> list[str]:
        """Of attacks that are no better than the mode, or than imputation."""
        return table_doubts(attacks, self.floors)


def _as_told(model: HostedModel, rows: Tensor) -> Tensor:
    outputs = model.outputs(rows)
    return outputs.argmax(1) if model.classes else outputs[:, 0]
