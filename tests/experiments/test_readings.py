"""Secrets read off activations: the figures, what a run makes of them, and what is said where nothing can be read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from experiments.commands.tables import results_tables, study_table
from experiments.readings import area_under_curve, reading_doubts
from experiments.record import ReadingOutcome, read_record, record_path
from experiments.report.html import write_report
from experiments.report.pooling import pooled
from experiments.runner import run
from experiments.scenario import ScenarioError, read_scenario
from experiments.statistics import summarise
from parties.datasets import load
from parties.datasets.dataset import partition
from tests.experiments.hosting.made_up import write_census
from tests.experiments.runs import TINY, scenario_file

READING = """
[[readings]]
name = "query_probe"
secret = "digit"
epochs = 30

[[readings]]
name = "tail_answers"

[[readings]]
name = "head_probe"
secret = "digit"
"""
IN_PROCESS = ["transport=in-process", "data.name=digits_parity", "data.victims=40", "data.auxiliary=300"]


def outcome(right: list[bool], majority: float) -> ReadingOutcome:
    return ReadingOutcome(
        name="query_probe",
        label="query_probe",
        secret="digit",
        settings={},
        requires=[],
        uses=[],
        status="done",
        majority=majority,
        accuracy=summarise(np.array(right, dtype=float)),
        right=right,
    )


def test_the_area_is_that_of_scikit_learn_and_its_interval_holds_it() -> None:
    rng = np.random.default_rng(3)
    truth = rng.integers(0, 4, 80)
    scores = (rng.random((80, 4)) + 0.7 * np.eye(4)[truth]).round(1).astype(np.float32)  # rounded, so that some tie
    found = area_under_curve(scores, truth)
    wanted = np.mean([roc_auc_score(truth == value, scores[:, value]) for value in range(4)])
    assert found is not None
    assert found.mean == pytest.approx(wanted)
    assert 0.5 < found.low < found.mean < found.high < 1


def test_guesses_have_an_area_of_a_half_and_a_single_value_has_none() -> None:
    truth = np.arange(300) % 3
    guess = area_under_curve(np.random.default_rng(0).random((300, 3)).astype(np.float32), truth)
    assert guess is not None
    assert guess.low < 0.5 < guess.high
    assert area_under_curve(np.ones((5, 3), dtype=np.float32), np.zeros(5, dtype=np.int64)) is None


def test_a_reading_no_better_than_the_most_frequent_value_is_doubted() -> None:
    assert not reading_doubts([outcome([True] * 18 + [False] * 2, majority=0.5)])
    (doubt,) = reading_doubts([outcome([True] * 10 + [False] * 10, majority=0.5)])
    assert "query_probe reads digit no better than always answering the most frequent value" in doubt


def test_attributes_travel_with_their_images() -> None:
    raw = load("digits_parity")
    parts, _ = partition(raw, {"train": 50, "victims": 30, "auxiliary": 40, "validation": 10, "test": 20}, seed=0)
    for part in parts.values():
        assert torch.equal(part.attributes["digit"] % 2, part.labels)
    assert len(parts["victims"].attributes["digit"].unique()) >= 8
    assert len(parts["victims"][:7].attributes["digit"]) == 7


def test_a_run_reads_what_is_granted_judges_it_and_shows_it(tmp_path: Path) -> None:
    grants = "threat_model.grants=['queries','tail','auxiliary']"
    scenario = read_scenario(scenario_file(tmp_path, TINY + READING), [*IN_PROCESS, grants])
    records = [record for _, record, _ in run(scenario, tmp_path / "out")]
    digit, label, refused = records[0].readings
    assert digit.accuracy is not None
    assert digit.auc is not None
    assert (digit.values, digit.queries) == (10, 310)
    assert digit.accuracy.low > digit.majority, "ten digits can be read off the first layer of a parity network"
    assert digit.auc.low > 0.6
    assert len(digit.right) == 40
    halves = [digit.owners[f"owner-{number}"] for number in (1, 2)]
    assert [half.victims for half in halves] == [20, 20]
    assert np.mean([half.accuracy.mean for half in halves]) == pytest.approx(digit.accuracy.mean)
    assert np.mean([half.majority for half in halves]) == pytest.approx(digit.majority)
    his = [right for right, victim in zip(digit.right, records[0].victims, strict=True) if victim.owner == "owner-2"]
    assert halves[1].accuracy.mean == pytest.approx(np.mean(his))
    assert label.accuracy is not None
    assert label.accuracy.mean == pytest.approx(records[0].utility.accuracy_over_wire), "it is the network's own answer"
    assert refused.status == "refused"
    assert "head_probe needs head" in refused.reason
    assert read_record(record_path(tmp_path / "out", records[0].key)) == records[0]
    page = write_report(tmp_path / "out").read_text()
    for text in ("What was read off", "query_probe", "digit, 10 values", "head_probe needs head"):
        assert text in page
    other = records[0].model_copy(update={"scenario": {**records[0].scenario, "seed": 1}})
    both = pooled([records[0], other])[0].readings[0]
    assert both.accuracy is not None
    assert both.accuracy.mean == pytest.approx(digit.accuracy.mean)
    assert results_tables(records).renderables[-1].row_count == 3 * len(records)
    assert study_table(records).renderables[-1].row_count == 3 * len(records)


@pytest.mark.parametrize("data", ["adult", "adult_whole"])
def test_an_attribute_that_inputs_give_away_is_read_and_one_that_nothing_follows_is_not(
    tmp_path: Path, data: str
) -> None:
    read = "[{name='query_probe', secret='sex'}, {name='query_probe', secret='race'}]"
    less = ["data.train=100", "data.auxiliary=120", "data.validation=40", "data.victims=60", "data.test=40"]
    small = ["transport=in-process", "cuts=['relu1']", "model.epochs=5", f"readings={read}", f"data.name={data}", *less]
    alone = ["defenses=[{name='none'}]", "attacks=[{name='regularized_inversion', iterations=2}]"]
    scenario = read_scenario("adult-attributes", [*small, *alone])
    ((_, record, _),) = run(scenario, tmp_path / "out", write_census(tmp_path))
    sex, race = record.readings
    assert sex.accuracy and race.accuracy
    assert sex.accuracy.low > 0.75 > sex.majority, "it follows the occupation, which is among the inputs"
    held = [text for text in record.warnings if "is among the inputs" in text]
    if data == "adult_whole":
        assert race.accuracy.low > race.majority
        assert [text.split()[0] for text in held] == ["sex", "race"]
        assert record.dataset["among_inputs"] == ["sex", "race", "marital"]
    else:
        assert race.accuracy.mean < 0.7
        assert not held


def test_a_secret_that_the_data_do_not_hold_is_refused_before_anything_runs(tmp_path: Path) -> None:
    scenario = read_scenario(scenario_file(tmp_path, TINY + READING), ["transport=in-process"])
    with pytest.raises(ScenarioError, match="digits says nothing of 'digit'; use one of: label"):
        next(iter(run(scenario, tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_a_scenario_without_readings_keeps_the_keys_of_its_records(tmp_path: Path) -> None:
    plain = read_scenario(scenario_file(tmp_path))
    keys = [trial.key for trial in plain.trials()]
    assert keys == [trial.key for trial in plain.model_copy(update={"readings": ()}).trials()]
    assert keys != [trial.key for trial in read_scenario(scenario_file(tmp_path, TINY + READING)).trials()]


def test_a_users_own_file_may_bring_attributes(tmp_path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (12, 8, 8), dtype=np.uint8)
    np.savez(tmp_path / "own.npz", images=images, labels=np.arange(12) % 2, attribute_age=np.arange(12) % 3)
    assert load(str(tmp_path / "own.npz")).attributes["age"].tolist() == [0, 1, 2] * 4
    np.savez(tmp_path / "wrong.npz", images=images, labels=np.arange(12) % 2, attribute_age=np.arange(12) / 3)
    with pytest.raises(ValueError, match="expected attribute_age as whole numbers"):
        load(str(tmp_path / "wrong.npz"))
