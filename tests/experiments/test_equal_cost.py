"""Tuning defenses to equal cost, and the words about who wins and what embarrasses whom."""

from __future__ import annotations

import json
import math
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from defenses import DEFENSES, make_defense
from experiments.cli import app
from experiments.equal_cost.comparison import read_comparison
from experiments.equal_cost.findings import findings
from experiments.equal_cost.standing import Standing, told_apart, verdicts
from experiments.equal_cost.strengths import DROPS, STRENGTHS, Strength, tuned
from experiments.record import Dependence, Record, read_records
from experiments.scenario import Named
from experiments.statistics import Summary
from experiments.study import read_study
from tests.experiments.synthetic import record, scenario


def test_bisection_finds_where_the_cost_is_the_drop() -> None:
    asked = []

    def cost(entry: Named) -> float:
        asked.append(entry.label)
        return 0.01 * float(entry.settings["sigma"])

    found = tuned(Strength("gaussian_noise", "sigma", 0.1, 30.0), (0.01, 0.05, 0.5), cost, steps=8)
    chosen = {drop: found.costs[Named(**table).label] for drop, table in found.chosen.items()}
    assert 0.0085 <= chosen[0.01] <= 0.01, "near the drop, and no dearer"
    assert 0.0425 <= chosen[0.05] <= 0.05
    assert found.chosen[0.5]["sigma"] == 30.0, "what costs less than it may at its strongest is used at its strongest"
    assert len(asked) == len(set(asked)) < 14, "what was measured once, or is near enough, is not measured again"


@pytest.mark.parametrize("noise", range(5))
def test_a_cost_that_is_not_quite_monotone_stays_affordable(noise: int) -> None:
    rng = np.random.default_rng(noise)

    def cost(entry: Named) -> float:
        return 0.01 * float(entry.settings["sigma"]) + 0.004 * rng.standard_normal()

    found = tuned(Strength("gaussian_noise", "sigma", 0.1, 30.0), DROPS, cost, steps=8)
    assert all(found.costs[Named(**table).label] <= drop + 1e-9 for drop, table in found.chosen.items())


def test_a_drop_that_the_weakest_exceeds_is_left_out() -> None:
    found = tuned(Strength("quantization", "bits", 6, 1, whole=True), DROPS, lambda entry: 0.02, steps=3)
    assert {drop: table["bits"] for drop, table in found.chosen.items()} == {0.03: 1, 0.05: 1}


def test_every_defense_takes_part_and_every_strength_is_one_of_its_settings() -> None:
    compared = {strength.defense for strength in STRENGTHS.values()}
    assert set(DEFENSES) - compared == {"none", "gaussian_mechanism", "laplace_mechanism"}
    for name, strength in STRENGTHS.items():
        weak, strong = (strength.at(share) for share in (0.0, 1.0))
        assert weak.name == strength.defense
        assert weak.label != strong.label, name
        assert make_defense(weak.name, weak.settings).settings != make_defense(strong.name, strong.settings).settings
    chain = STRENGTHS["nopeek and noise"].at(0.0).settings["parts"]
    assert math.isclose(chain[1]["sigma"], 0.05), "the setting of a chain's part"


def made(defense: str, level: float, drop: float = 0.0, dcor: float = 0.8, **changes: Any) -> list[Record]:
    """Records of four seeds: an attack that reaches `level`, and others by their names in `changes`."""
    rng = np.random.default_rng(zlib.crc32(defense.encode()))
    found = []
    for seed in range(4):
        asked = scenario(cuts=("relu2",), seed=seed)
        levels = {"inverse_network": level, **changes.get("attacks", {})}
        attacks = {label: list(at + 0.01 * rng.standard_normal(20)) for label, at in levels.items()}
        one = record(asked, "relu2", defense, attacks)
        utility = one.utility.model_copy(update={"accuracy_defended": one.utility.accuracy - drop})
        dependence = Dependence(
            dcor=dcor, dcor_unbiased=dcor, mutual_information_bits=1, mutual_information_shuffled_bits=0, samples=20
        )
        notes = changes.get("notes", {})
        key = f"{one.key}-{seed}"
        found.append(
            one.model_copy(update={"utility": utility, "dependence": dependence, "defense_notes": notes, "key": key})
        )
    return found


def entries(*labels: str) -> dict[str, dict[str, Any]]:
    """Labels such as `nopeek weight=1.0` as tables, by the defense's name."""
    tables = [
        {"name": name, setting: float(value)}
        for name, _, rest in (label.partition(" ") for label in labels)
        for setting, _, value in [rest.partition("=")]
    ]
    return {str(table["name"]): table for table in tables}


def test_the_words_say_who_wins_and_from_whom_it_is_not_told_apart() -> None:
    records = [
        *made("none", 0.9),
        *made("nopeek weight=1.0", 0.4, 0.05),
        *made("mid beta=0.1", 0.401, 0.05),
        *made("gaussian_noise sigma=0.5", 0.7, 0.04),
        *made("top_k_mask rate=0.5", 0.9, 0.05),
    ]
    chosen = {0.05: entries(*(one.defense for one in records[4::4]))}
    (verdict,) = verdicts(records, chosen)
    assert {one.name for one in verdict.standings[:2]} == {"nopeek", "mid"}
    assert [one.name for one in verdict.standings[2:]] == ["gaussian_noise", "top_k_mask"]
    winner, idle = verdict.sentences
    assert winner.startswith("At 5 points ")
    assert "leaves least, not told apart from" in winner
    assert "gaussian_noise" not in winner.replace(verdict.standings[0].label, "")
    assert idle.endswith(": top_k_mask (0.90).")


def test_the_words_say_when_nothing_separates_them() -> None:
    same = ["nopeek weight=1.0", "mid beta=0.1", "cem sigma=1.0", "disco rate=0.5"]
    records = [one for label in ["none", *same] for one in made(label, 0.9)]
    (verdict,) = verdicts(records, {0.01: entries(*same)})
    assert "At 1 point nothing separates the defenses" in verdict.sentences[0]
    assert all(label.split()[0] in verdict.sentences[1] for label in same), "and none of them is better than none"


def test_equal_defenses_are_hardly_ever_told_apart() -> None:
    nothing, fooled = Summary(mean=0, low=0, high=0, percentiles={}), 0
    for trial in range(60):
        rng = np.random.default_rng(trial)
        # Trainings differ more than the victims of one do.
        columns = [
            {seed: 0.03 * rng.standard_normal() + 0.05 * rng.standard_normal(20) for seed in range(4)}
            for _ in range(10)
        ]
        equal = [Standing(0.01, "", "", nothing, nothing, nothing, [], each) for each in columns]
        least, *others = sorted(equal, key=lambda one: float(np.mean(list(one.columns.values()))))
        fooled += any(told_apart([(other, least) for other in others]))
    assert fooled <= 6, "the smallest of ten equal means is taken for the best in no more than a tenth of cases"


def test_the_embarrassing_is_found_and_nothing_else() -> None:
    blind = {"regularized_inversion": 0.85, "regularized_inversion unaware": 0.1}
    records = [
        *made("none", 0.9),
        *made("dropout_mask rate=0.5", 0.6, 0.05, attacks=blind),
        *made("shredder inverse_snr=5.0", 0.9, 0.05, notes={"inverse_snr": 5.0}),
        *made("nopeek weight=1.0", 0.6, 0.05, dcor=0.2),
        *made("gaussian_noise sigma=0.5", 0.3, 0.05, dcor=0.3),
    ]
    chosen = {0.05: entries(*(one.defense for one in records[4::4]))}
    found = findings(records, verdicts(records, chosen))
    dropout, mask, nopeek = found
    assert dropout.startswith("dropout_mask rate=0.5 looks good against a regularized_inversion that does not know")
    assert "(SSIM 0.10); one that knows reaches 0.85" in dropout
    assert mask.startswith("shredder inverse_snr=5.0 sends 5 times as much noise as signal and hides nothing")
    assert nopeek.startswith("Under nopeek weight=1.0 distance correlation falls from 0.80 to 0.20")
    assert "identification stays at 100 %" in nopeek


def test_a_higher_price_that_buys_nothing_is_named() -> None:
    records = [
        *made("none", 0.9),
        *made("nopeek weight=1.0", 0.6, 0.01),
        *made("nopeek weight=9.0", 0.6, 0.05),
        *made("mid beta=0.1", 0.8, 0.01),
        *made("mid beta=0.5", 0.4, 0.05),
    ]
    chosen = {
        0.01: entries("nopeek weight=1.0", "mid beta=0.1"),
        0.05: entries("nopeek weight=9.0", "mid beta=0.5"),
    }
    found = findings(records, verdicts(records, chosen))
    assert found[0] == "Paying 5 points instead of 1 point buys nothing measurable from nopeek."


QUICK = ["--steps", "1", "--tuning-seeds", "1", "--workers", "1", "--quick"]
SMALL = ["study.seeds=[100]", "model.epochs=1", "data.train=200", "attack.regularized_inversion.iterations=5"]


def test_the_command_tunes_attacks_and_says_who_wins(tmp_path: Path) -> None:
    options = [part for change in SMALL for part in ("--set", change)]
    chosen = ["--defense", "gaussian_noise", "--defense", "a fixed mask", *QUICK]
    command = ["compare-defenses", *chosen, *options, "--out", str(tmp_path)]
    done = CliRunner().invoke(app, command)
    assert done.exit_code == 0, done.output
    assert "At 5 points" in done.output
    records = read_records(tmp_path)
    assert {record.defense.split()[0] for record in records} <= {"none", "gaussian_noise", "shredder"}
    assert {record.scenario["seed"] for record in records} == {100}
    content = read_comparison(tmp_path, [record.key for record in records])
    assert content
    assert content["tuning_seeds"] == [0]
    assert content["verdicts"][2]["sentences"][0][:30] in (tmp_path / "report.html").read_text()
    assert read_comparison(tmp_path, ["another"]) is None
    table = (tmp_path / "equal-cost.md").read_text()
    assert table.count("\n| ") == sum(len(verdict["standings"]) for verdict in content["verdicts"])
    assert all(f"- {text}\n" in table for text in content["verdicts"][2]["sentences"])
    again = read_study(str(tmp_path / "tuned.toml"))
    assert again.name == "equal-cost"
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "tuning").iterdir()}
    assert len(kept) == 2
    repeated = CliRunner().invoke(app, command)
    assert "was there already" in repeated.output
    assert kept == {path: path.stat().st_mtime_ns for path in (tmp_path / "tuning").iterdir()}
    assert json.loads((tmp_path / "equal-cost.json").read_bytes())["verdicts"] == content["verdicts"]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--defense", "none"], "cannot tune 'none'"),
        (["--set", "study.seeds=[0,5]"], "seed 0 is among those reported and those tuned with"),
        (["--set", "data.tuning=0"], "expected images to tune on"),
        (["--set", "cuts=['relu1','relu2']"], "expected one cut"),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_runs(options: list[str], said: str, tmp_path: Path) -> None:
    refused = CliRunner().invoke(app, ["compare-defenses", "--quick", "--out", str(tmp_path / "out"), *options])
    assert said in str(refused.exception)
    assert not (tmp_path / "out").exists()
