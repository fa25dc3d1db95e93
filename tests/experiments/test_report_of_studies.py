"""What a study's report makes of many trials: pooled figures, comparisons, equal cost, and how it is run again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.record import Record, Utility, write_manifest
from experiments.report.comparisons import comparisons, worths
from experiments.report.html import write_report
from experiments.report.pooling import alike, pooled
from experiments.scenario import Data
from experiments.study import read_study
from tests.experiments.synthetic import record, scenario, write_run


def _utility(drop: float) -> Utility:
    return Utility(
        train_accuracy=1.0,
        accuracy=0.95,
        accuracy_defended=0.95 - drop,
        accuracy_over_wire=0.95 - drop,
        evaluator_accuracy=0.9,
    )


def _trial(cut: str, defense: str, seed: int, level: float, drop: float = 0.0, data: Data | None = None) -> Record:
    rng = np.random.default_rng([seed, len(cut), len(defense)])
    ssim = np.clip(level + 0.02 * rng.normal(size=20) + 0.01 * seed, 0, 1)
    asked = scenario(seed=seed, **({"data": data} if data else {}))
    attacks = {"regularized_inversion": list(ssim), "shadow_model": [0.05] * 20}
    key = f"{cut}-{defense.replace(' ', '-')}-{seed}-{data.name if data else ''}"
    return record(asked, cut, defense, attacks, key=key, utility=_utility(drop))


def _defended(seeds: int = 4) -> list[Record]:
    return [
        _trial("relu2", defense, seed, level, drop)
        for seed in range(seeds)
        for defense, level, drop in (
            ("none", 0.80, 0.0),
            ("gaussian_noise sigma=0.5", 0.60, 0.008),
            ("gaussian_noise sigma=2.0", 0.40, 0.045),
            ("nopeek weight=5.0", 0.30, 0.2),
        )
    ]


def test_trials_that_differ_in_their_seed_are_one() -> None:
    records = _defended()
    whole = pooled(records)
    assert [len(group) for group in alike(records)] == [4] * 4
    assert [one.defense for one in whole] == [one.defense for one in records[:4]]
    means = [
        np.mean(r.attacks[0].leakage.per_victim["ssim"])
        for r in records
        if r.defense == "none" and r.attacks[0].leakage
    ]
    found = whole[0].attacks[0].leakage
    assert found
    assert found.ssim.mean == pytest.approx(np.mean(means))
    assert found.ssim.low < min(means) and found.ssim.high > max(means), "it speaks of other trainings as well"


def test_an_interval_stays_within_what_a_measure_can_be() -> None:
    found = pooled([_trial("relu1", "none", seed, 0.97) for seed in range(2)])[0].attacks[0].leakage
    assert found and found.ssim.high <= 1 and found.identification.high <= 1


def test_other_data_are_told_apart_by_the_name_of_the_cut() -> None:
    records = [_trial("relu1", "none", 0, 0.5, data=Data(name=name)) for name in ("digits", "mnist")]
    assert [one.cut for one in pooled(records)] == ["relu1 (data.name=digits)", "relu1 (data.name=mnist)"]
    assert comparisons(records) == [], "victims of two data sets are no pairs"


def test_what_a_defense_is_worth_at_equal_cost() -> None:
    bare, noise, nopeek = worths(_defended())
    assert noise.name == "gaussian_noise" and noise.strengths == 2
    assert [float(figure.split()[0]) for figure in noise.at] == pytest.approx([0.6, 0.6, 0.4], abs=0.03)
    assert nopeek.at == ["–", "–", "–"], "every strength costs more"
    assert float(noise.area) > float(bare.area)


def test_comparisons_find_what_is_there_and_only_that() -> None:
    same = [_trial("relu2", "laplace_noise scale=1.0", seed, 0.80) for seed in range(4)]
    found = {one.one: one for one in comparisons([*_defended(), *same])}
    assert found["gaussian_noise sigma=2.0"].answer == "leaks less"
    assert found["laplace_noise scale=1.0"].answer == "undecided"
    assert all(one.seeds == 4 and one.other == "no defense" for one in found.values())


def test_with_one_defense_each_cut_is_compared_with_the_one_before() -> None:
    cuts = {"relu1": 0.9, "relu2": 0.5, "relu3": 0.5}
    found = comparisons([_trial(cut, "none", seed, level) for seed in range(4) for cut, level in cuts.items()])
    assert [(one.one, one.other, one.answer) for one in found] == [
        ("relu2", "relu1", "leaks less"),
        ("relu3", "relu2", "undecided"),
    ]


def test_the_report_says_how_the_study_is_run_again_and_what_was_skipped(tmp_path: Path) -> None:
    records = _defended()
    write_run(tmp_path, records)
    table = read_study("defenses", quick=True).table
    keys = [made.key for made in records]
    write_manifest(tmp_path, "defenses", keys, study=table, skipped=[["relu9 · none", "unknown cut 'relu9'"]])
    page = write_report(tmp_path).read_text()
    assert "<code>unsmash study defenses --quick</code>" in page
    assert "unknown cut &#39;relu9&#39;" in page
    assert "16 trials" in page and "4 training seeds" in page
    write_manifest(tmp_path, "defenses", keys, study={**table, "cuts": ["relu1"]})
    assert "<code>unsmash study defenses.toml</code>" in write_report(tmp_path).read_text()
