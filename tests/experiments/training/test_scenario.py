"""Training scenarios: strict, and refused before anything is trained."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from experiments.scenario import ScenarioError, bundled
from experiments.training.runner import train
from experiments.training.scenario import FOLDER, read_training_scenario
from parties.datasets.dataset import DataError
from parties.protocols import PROTOCOLS

MISTAKES = {
    "a key that there is not": (["model.epochs=3"], "batch_size"),
    "a protocol that there is not": (["protocol=vanila"], "vanilla"),
    "labels asked of a server that must not see them": (
        ["protocol=u_shaped", "cuts=['relu1','fc2']", "labels_to_server=true"],
        "labels",
    ),
    "labels kept by a protocol that shows them": (["labels_to_server=false"], "labels"),
    "one cut for a U-shape": (["protocol=u_shaped"], "2 cut"),
    "too many owners": (["owners.count=2"], "owners"),
    "an owner that cannot be left out": (["owners.policy=skip"], "needs every owner"),
    "micro-batches where owners meet": (
        ["protocol=vertical", "owners.count=2", "model.micro_batches=2"],
        "micro_batches",
    ),
    "shares that there are not": (["data.shares=unfair"], "label_skew"),
    "unequal shares of the same samples": (
        ["protocol=vertical", "owners.count=2", "data.shares=quantity"],
        "same samples",
    ),
    "a defense that needs a trained network": (["defense={name='shredder'}"], "shredder"),
    "a defense that needs each sample's gradient": (["defense={name='dp_sgd',clip=1.0,noise=1.0}"], "dp_sgd"),
    "a defense that needs labels that an owner has not": (
        ["protocol=vertical", "owners.count=2", "defense={name='cem',sigma=0.1}"],
        "cem needs labels",
    ),
    "a dtype that the wire has not": (["owners.wire_dtype=int8"], "float16"),
}


@pytest.mark.parametrize("overrides, word", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_named(overrides: list[str], word: str) -> None:
    with pytest.raises(ScenarioError, match=word):
        read_training_scenario("train-vanilla", overrides)


@pytest.mark.parametrize(
    "overrides, word",
    [
        (["cuts=['relu9']"], "relu9"),
        (["protocol=u_shaped", "cuts=['fc2','relu1']"], "from shallow to deep"),
        (["protocol=vertical", "owners.count=3"], "3 equal strips"),
        (["protocol=vertical", "owners.count=2"], "16x16"),
        (["protocol=sequential", "owners.count=2", "data.shares=group"], "groups"),
    ],
)
def test_what_does_not_fit_the_data_is_refused_before_a_process_starts(
    overrides: list[str], word: str, tmp_path: Path
) -> None:
    with pytest.raises((ScenarioError, DataError), match=word):
        train(read_training_scenario("train-vanilla", overrides), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_every_protocol_has_a_bundled_scenario() -> None:
    scenarios = [read_training_scenario(name) for name in bundled(FOLDER)]
    assert {scenario.protocol for scenario in scenarios} == set(PROTOCOLS)
    assert all(scenario.description for scenario in scenarios)


def test_what_cannot_change_the_weights_is_not_in_the_key() -> None:
    plain = read_training_scenario("train-vanilla")
    assert plain.key == read_training_scenario("train-vanilla", ["owners.checkpoint_batches=7"]).key
    assert plain.key != read_training_scenario("train-vanilla", ["seed=1"]).key


def test_owners_of_a_vertical_training_get_strips(tmp_path: Path) -> None:
    from experiments.training.scenario import boundary_of
    from split_models.tensor_spec import TensorSpec

    scenario = read_training_scenario("train-vertical")
    boundary = boundary_of(scenario, TensorSpec((1, 28, 28), low=0.0, high=1.0), 10)
    assert boundary.activation.shape == (64, 14, 7)
    assert np.prod(boundary.output.shape) == 10
