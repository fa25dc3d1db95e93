"""What holds for every registered attack, whatever it does."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch

from attacks import ATTACKS, AttackError, make_attack
from attacks.attack import AttackRefused, granted
from attacks.knowledge import Capability, Knowledge, Observation
from split_models.checkpoints import digest
from split_models.tensor_spec import SpecError
from tests.support import EVERY_CUT, Stage, fast, run_attack, small_stage, smooth_images

FIELD = {  # written down a second time on purpose: a slip in the attack's own table would grant too much
    Capability.HEAD: "head",
    Capability.ARCHITECTURE: "fresh_head",
    Capability.DEFENSE: "defense",
    Capability.QUERIES: "query",
    Capability.TAIL: "tail",
    Capability.AUXILIARY: "auxiliary",
    Capability.REPEATS: "repeats",
}

pytestmark = pytest.mark.parametrize("name", ATTACKS)


@pytest.fixture
def stage() -> Stage:
    return small_stage("lenet", 1, "relu1")


def victims(stage: Stage, count: int = 5) -> torch.Tensor:
    return smooth_images(count, stage.spec, seed=9)


def without(knowledge: Knowledge, *capabilities: Capability) -> Knowledge:
    return dataclasses.replace(knowledge, **{FIELD[capability]: None for capability in capabilities})


@pytest.mark.parametrize("network, channels, cut", EVERY_CUT)
def test_works_at_every_cut(name: str, network: str, channels: int, cut: str) -> None:
    stage = small_stage(network, channels, cut)
    attack = fast(ATTACKS[name])
    attack.prepare(granted(stage.knowledge(), ATTACKS[name]), torch.Generator().manual_seed(0))
    for count in (1, 17):
        images = attack.reconstruct(Observation(stage.observed(victims(stage, count))))
        assert images.shape == (count, *stage.spec.shape)
        assert images.dtype == torch.float32
        assert not images.requires_grad
        assert torch.isfinite(images).all()
        assert images.min() >= 0
        assert images.max() <= 1


def test_the_same_seed_gives_the_same_bits(name: str, stage: Stage) -> None:
    seen = stage.observed(victims(stage))
    first, again = (run_attack(fast(ATTACKS[name]), stage.knowledge(), seen, seed=4) for _ in range(2))
    assert torch.equal(first, again)


def test_what_was_learnt_once_serves_again_to_the_bit(name: str, stage: Stage) -> None:
    seen = Observation(stage.observed(victims(stage)))
    first, again = fast(ATTACKS[name]), fast(ATTACKS[name])
    knowledge = granted(stage.knowledge(), ATTACKS[name])
    first.prepare(knowledge, torch.Generator().manual_seed(4))
    learnt = first.learnt()
    if learnt is None:
        return  # it keeps nothing, so it learns each time
    asked = stage.query.asked
    again.prepare(knowledge, torch.Generator().manual_seed(5), learnt)
    assert again.notes == first.notes
    assert stage.query.asked == asked, "it asks nothing twice"
    assert torch.equal(first.reconstruct(seen), again.reconstruct(seen))
    assert again.notes == first.notes
    further = [attack.learnt() for attack in (first, again)]
    assert further[0] and further[1] and torch.equal(further[0].generator, further[1].generator)


def test_nothing_is_drawn_from_the_global_generator(name: str, stage: Stage) -> None:
    before = torch.get_rng_state()
    run_attack(fast(ATTACKS[name]), stage.knowledge(), stage.observed(victims(stage)))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_target_is_left_as_it_was(name: str, stage: Stage) -> None:
    seen = stage.observed(victims(stage))
    kept, weights = seen.clone(), digest(stage.model.state_dict())
    modes = [module.training for module in stage.model.modules()]
    run_attack(fast(ATTACKS[name]), stage.knowledge(), seen)
    assert digest(stage.model.state_dict()) == weights
    assert [module.training for module in stage.model.modules()] == modes
    assert torch.equal(seen, kept)


def test_the_observation_matters(name: str, stage: Stage) -> None:
    attack = fast(ATTACKS[name])
    attack.prepare(stage.knowledge(), torch.Generator().manual_seed(0))
    one, other = victims(stage, 2).split(1)
    assert not torch.equal(
        attack.reconstruct(Observation(stage.observed(one))), attack.reconstruct(Observation(stage.observed(other)))
    )


def test_each_missing_capability_is_refused_by_name(name: str, stage: Stage) -> None:
    assert ATTACKS[name].requires
    for capability in ATTACKS[name].requires:
        with pytest.raises(AttackRefused, match=rf"{name} needs .*{capability.value}"):
            fast(ATTACKS[name]).prepare(without(stage.knowledge(), capability), torch.Generator())


def test_what_it_requires_is_enough(name: str, stage: Stage) -> None:
    knowledge = without(stage.knowledge(), *(set(Capability) - ATTACKS[name].requires))
    images = run_attack(fast(ATTACKS[name]), knowledge, stage.observed(victims(stage)))
    assert torch.isfinite(images).all()


def test_what_it_does_not_ask_for_is_withheld(name: str, stage: Stage) -> None:
    offered = stage.knowledge()
    handed = granted(offered, ATTACKS[name])
    wanted = ATTACKS[name].requires | ATTACKS[name].uses
    for capability, field in FIELD.items():
        expected = getattr(offered, field) if capability in wanted else None
        assert getattr(handed, field) is expected, capability
    assert set(FIELD) == set(Capability)


def test_no_more_is_asked_than_the_budget(name: str) -> None:
    for budget in (2, 3, 7, 100):
        stage = small_stage("lenet", 1, "conv1", query_budget=budget)
        attack = fast(ATTACKS[name])
        run_attack(attack, stage.knowledge(), stage.observed(victims(stage)))
        assert stage.query.asked <= budget
        assert stage.query.asked == attack.notes.get("queries", 0)


def test_neighbours_in_the_batch_do_not_matter(name: str, stage: Stage) -> None:
    if not ATTACKS[name].victims_apart:
        pytest.skip(f"{name} reconstructs all victims together")
    attack = fast(ATTACKS[name])
    attack.prepare(stage.knowledge(), torch.Generator().manual_seed(0))
    seen = stage.observed(victims(stage, 6))
    together = attack.reconstruct(Observation(seen))
    alone = torch.cat([attack.reconstruct(Observation(row)) for row in seen.split(1)])
    torch.testing.assert_close(together, alone, rtol=0, atol=1e-4)
    turned = attack.reconstruct(Observation(seen.flip(0))).flip(0)
    torch.testing.assert_close(together, turned, rtol=0, atol=1e-4)


def test_repeated_sightings_count_where_they_are_granted_alone(name: str) -> None:
    stage = small_stage("lenet", 1, "relu1", repeats=4)
    clean = stage.observed(victims(stage))
    repeated = clean[:, None] + torch.rand(len(clean), 4, *clean.shape[1:], generator=torch.Generator().manual_seed(2))
    found = {}
    for granted_too in (True, False):
        knowledge = granted(stage.knowledge(), ATTACKS[name])
        if not granted_too:
            knowledge = without(knowledge, Capability.REPEATS)
        for seen in (Observation(repeated[:, 0]), Observation(repeated[:, 0], repeated)):
            attack = fast(ATTACKS[name])
            attack.prepare(knowledge, torch.Generator().manual_seed(0))
            found[granted_too, seen.repeated is not None] = attack.reconstruct(seen)
    assert torch.equal(found[False, True], found[False, False])
    assert Capability.REPEATS in ATTACKS[name].uses
    assert not torch.equal(found[True, True], found[True, False])


def test_broken_activations_are_refused(name: str, stage: Stage) -> None:
    attack = fast(ATTACKS[name])
    attack.prepare(stage.knowledge(), torch.Generator().manual_seed(0))
    seen = stage.observed(victims(stage))
    for wrong in (seen[:, :-1], seen[0], seen.flatten(1), seen.double()):
        with pytest.raises(SpecError, match="observed activations"):
            attack.reconstruct(Observation(wrong))


def test_reconstruct_needs_prepare(name: str, stage: Stage) -> None:
    with pytest.raises(RuntimeError, match="prepare"):
        fast(ATTACKS[name]).reconstruct(Observation(stage.observed(victims(stage))))


def test_progress_is_told_as_a_fraction(name: str, stage: Stage) -> None:
    told: list[float] = []
    attack = fast(ATTACKS[name])
    attack.progress = told.append
    run_attack(attack, stage.knowledge(), stage.observed(victims(stage)))
    assert told
    assert all(0 <= fraction <= 1 for fraction in told)


def test_notes_can_be_written_into_a_record(name: str, stage: Stage) -> None:
    attack = fast(ATTACKS[name])
    run_attack(attack, stage.knowledge(), stage.observed(victims(stage)))
    assert json.loads(json.dumps(attack.notes)) == attack.notes


def test_wrong_settings_are_errors_that_name_them(name: str) -> None:
    with pytest.raises(AttackError, match=f"{name}: unknown setting 'sigmoid'; use one of: .*"):
        make_attack(name, {"sigmoid": 1})
    for setting, field in ATTACKS[name].Settings.model_fields.items():
        bounds = [getattr(rule, "ge", getattr(rule, "gt", None)) for rule in field.metadata]
        for wrong in [{"a": 1}, *(bound - 1 for bound in bounds if bound is not None)]:
            with pytest.raises(AttackError, match=f"{name}: {setting}"):
                make_attack(name, {setting: wrong})


def test_its_name_in_print_holds_every_setting(name: str) -> None:
    text = repr(make_attack(name))
    assert text.startswith(f"{name}(")
    assert all(f"{setting}=" in text for setting in ATTACKS[name].Settings.model_fields)
