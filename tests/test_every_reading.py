"""What holds for every registered reading, whatever it infers."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from attacks import AttackError, make_reading
from attacks.attack import AttackRefused, granted
from attacks.knowledge import FIELDS, LABEL, Capability, Knowledge, Observation
from attacks.reading import Reading
from attacks.readings import READINGS
from split_models.checkpoints import digest
from split_models.tensor_spec import SpecError
from tests.support import CLASSES, EVERY_CUT, Stage, fast_reading, small_stage, smooth_images

pytestmark = pytest.mark.parametrize("name", READINGS)


@pytest.fixture
def stage() -> Stage:
    return small_stage("lenet", 1, "relu1")


def seen_by(stage: Stage, count: int = 5) -> torch.Tensor:
    return stage.observed(smooth_images(count, stage.spec, seed=9))


def prepared(name: str, knowledge: Knowledge, seed: int = 0) -> Reading:
    reading = fast_reading(READINGS[name])
    reading.prepare(granted(knowledge, READINGS[name]), torch.Generator().manual_seed(seed))
    return reading


@pytest.mark.parametrize("network, channels, cut", EVERY_CUT)
def test_works_at_every_cut(name: str, network: str, channels: int, cut: str) -> None:
    stage = small_stage(network, channels, cut)
    reading = prepared(name, stage.knowledge())
    for count in (1, 17):
        scores = reading.read(Observation(seen_by(stage, count)))
        assert scores.shape == (count, CLASSES)
        assert scores.dtype == torch.float32
        assert not scores.requires_grad
        torch.testing.assert_close(scores.sum(1), torch.ones(count))
        assert scores.min() >= 0


def test_the_same_seed_gives_the_same_bits_and_the_global_generator_is_left_alone(name: str, stage: Stage) -> None:
    before = torch.get_rng_state()
    seen = Observation(seen_by(stage))
    first, again = (prepared(name, stage.knowledge(), seed=4).read(seen) for _ in range(2))
    assert torch.equal(first, again)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_target_and_what_was_seen_are_left_as_they_were(name: str, stage: Stage) -> None:
    seen = seen_by(stage)
    kept, weights = seen.clone(), digest(stage.model.state_dict())
    prepared(name, stage.knowledge()).read(Observation(seen))
    assert digest(stage.model.state_dict()) == weights
    assert torch.equal(seen, kept)


def test_the_observation_matters_and_neighbours_do_not(name: str, stage: Stage) -> None:
    reading, seen = prepared(name, stage.knowledge()), seen_by(stage, 6)
    together = reading.read(Observation(seen))
    assert not torch.equal(together[0], together[1])
    alone = torch.cat([reading.read(Observation(row)) for row in seen.split(1)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-5)


def test_each_missing_capability_is_refused_by_name_and_the_rest_is_enough(name: str, stage: Stage) -> None:
    cls = READINGS[name]
    assert cls.requires
    for capability in cls.requires:
        lacking = dataclasses.replace(stage.knowledge(), **{FIELDS[capability]: None})
        with pytest.raises(AttackRefused, match=rf"{name} needs .*{capability.value}"):
            fast_reading(cls).prepare(lacking, torch.Generator())
    bare = {FIELDS[capability]: None for capability in set(Capability) - cls.requires}
    reading = prepared(name, dataclasses.replace(stage.knowledge(), **bare))
    assert torch.isfinite(reading.read(Observation(seen_by(stage)))).all()


def test_an_attribute_is_read_or_refused_and_one_that_nobody_knows_is_refused(name: str, stage: Stage) -> None:
    reading = fast_reading(READINGS[name], "shade")
    if Capability.AUXILIARY in READINGS[name].requires:
        reading.prepare(granted(stage.knowledge(), READINGS[name]), torch.Generator().manual_seed(0))
        assert reading.read(Observation(seen_by(stage))).shape == (5, 3)
        told = "say nothing of 'smell'; use one of: label, shade, corner"
    else:
        with pytest.raises(AttackRefused, match="label alone, got secret 'shade'"):
            reading.prepare(stage.knowledge(), torch.Generator())
        told = "label alone"
    with pytest.raises(AttackRefused, match=told):
        fast_reading(READINGS[name], "smell").prepare(stage.knowledge(), torch.Generator())


def test_no_more_is_asked_than_the_budget(name: str) -> None:
    for budget in (2, 3, 7, 100):
        stage = small_stage("lenet", 1, "conv1", query_budget=budget)
        reading = prepared(name, stage.knowledge())
        assert stage.query.asked <= budget
        assert stage.query.asked == reading.notes.get("queries", 0)


def test_progress_is_a_fraction_and_notes_are_json(name: str, stage: Stage) -> None:
    told: list[float] = []
    reading = fast_reading(READINGS[name])
    reading.progress = told.append
    reading.prepare(stage.knowledge(), torch.Generator().manual_seed(0))
    reading.read(Observation(seen_by(stage)))
    assert told
    assert all(0 <= fraction <= 1 for fraction in told)
    assert json.loads(json.dumps(reading.notes)) == reading.notes


def test_misuse_is_said(name: str, stage: Stage) -> None:
    with pytest.raises(RuntimeError, match="prepare"):
        fast_reading(READINGS[name]).read(Observation(seen_by(stage)))
    with pytest.raises(SpecError, match="observed activations"):
        prepared(name, stage.knowledge()).read(Observation(seen_by(stage)[:, :-1]))
    with pytest.raises(AttackError, match=f"{name}: unknown setting 'sigmoid'; use one of: secret"):
        make_reading(name, {"sigmoid": 1})
    assert make_reading(name).settings.model_dump()["secret"] == LABEL
