"""The planner: what satisfies wishes, on which evidence, and whether its latency holds on a slow link."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from defenses import make_defense
from experiments.planner import Evidence, Link, Option, Wishes, evidence, options, read_evidence
from experiments.record import Record, RecordError, write_record
from experiments.report.plan_page import conclusion, write_plan
from experiments.scenario import Named, ThreatModel
from experiments.statistics import Summary
from parties.compute_server import ComputeServer, SplitPoint
from parties.data_owner import DataOwner
from parties.transcript import Transcript
from parties.wire.client import GrpcChannel
from parties.wire.server import GrpcServer
from split_models.split_model import output_spec, split
from split_models.tensor_spec import TensorSpec
from split_models.zoo import build
from tests.experiments.synthetic import record, scenario
from tests.parties.shaping_proxy import ShapingProxy
from tests.support import smooth_images

SPEC = TensorSpec((1, 28, 28), low=0.0, high=1.0)
NONE = Named(name="none")
FAST = Link(1000.0)
NO_WISHES = Wishes()


def entry(cut: str, accuracy: float = 0.9, leakage: float | None = 0.5, defense: Named = NONE) -> Evidence:
    known = None if leakage is None else Summary(mean=leakage, low=leakage - 0.05, high=leakage + 0.05, percentiles={})
    return Evidence(cut, defense, accuracy, known, "inverse_network", 1, (f"{cut}-{defense.name}",))


def plan(found: list[Evidence], link: Link = FAST, wishes: Wishes = NO_WISHES, slowdown: float = 1.0) -> list[Option]:
    model = build("lenet", SPEC, 4)
    return options(found, model, SPEC, 4, link, wishes, owner_slowdown=slowdown, repeats=1)


def test_an_exchange_takes_its_bytes_and_one_round_trip() -> None:
    assert Link(8.0, 30.0).exchange_ms(10_000, 1_000) == pytest.approx(30 + 11 + 0.156)
    assert Link(8.0).exchange_ms(0, 0) == pytest.approx(2 * 78 / 1000)


def test_leakage_is_that_of_the_strongest_attacker_over_seeds_and_victims() -> None:
    weak, strong, refused = [0.2] * 20, [0.8] * 20, "not granted"
    made = [
        record(scenario(seed=0), "relu1", "none", {"a": weak, "b": strong}, key="1"),
        record(scenario(seed=1), "relu1", "none", {"a": weak, "b": [0.7] * 20}, key="2"),
        record(scenario(seed=2), "relu1", "none", {"a": weak, "b": [0.6] * 20}, key="3"),
        record(scenario(), "relu2", "gaussian_noise sigma=0.5", {"a": refused}, key="4"),
    ]
    first, second = evidence(made, "ssim")
    assert (first.cut, first.defense.label, first.keys) == ("relu1", "none", ("1", "2", "3"))
    assert (first.attacker, first.seeds) == ("b", 3)
    assert first.leakage is not None
    assert first.leakage.mean == pytest.approx(0.7)
    # Means of three seeds drawn of (0.6, 0.7, 0.8): 1 of 27 draws is 0.6 thrice, so that is the percentile, stretched.
    arm = 0.1 * 4.3027 / 1.95996 * (3 / 2) ** 0.5
    assert (first.leakage.low, first.leakage.high) == (
        pytest.approx(0.7 - arm, abs=1e-3),
        pytest.approx(0.7 + arm, abs=1e-3),
    )
    assert second.defense.settings == {"sigma": 0.5}
    assert (second.leakage, second.attacker, second.seeds) == (None, "", 0)
    decibels = evidence(made, "psnr_db")[0].leakage
    assert decibels is not None and decibels.mean == pytest.approx(20.7)
    identified = evidence(made, "identification")[0].leakage
    assert identified is not None and identified.low == identified.mean == identified.high == 1


def test_one_seed_has_an_interval_over_its_victims_and_few_seeds_reach_no_further_than_the_measure() -> None:
    (alone,) = evidence([record(scenario(), "relu1", "none", {"a": [0.2, 0.8] * 50}, range(100), key="1")], "ssim")
    assert alone.leakage is not None
    arm = 1.96 * 0.3 / 100**0.5
    assert alone.leakage.low == pytest.approx(0.5 - arm, abs=0.01)
    assert alone.leakage.high == pytest.approx(0.5 + arm, abs=0.01)
    pair = [record(scenario(seed=s), "relu1", "none", {"a": [0.5 + 0.4 * s] * 20}, key=str(s)) for s in (0, 1)]
    (both,) = evidence(pair, "ssim")
    assert both.leakage is not None and both.leakage.high == 1


def test_many_equal_attackers_are_no_stronger_than_one_by_chance() -> None:
    rng = np.random.default_rng(0)
    found, largest = [], []
    for _ in range(30):
        made = record(scenario(), "relu1", "none", {str(a): rng.normal(0.5, 0.2, 20).tolist() for a in range(12)})
        (entry,) = evidence([made], "ssim")
        assert entry.leakage is not None
        found.append(entry.leakage.mean)
        largest.append(max(attack.leakage.ssim.mean for attack in made.attacks if attack.leakage))
    assert np.mean(largest) > 0.54, "what picking the largest mean would say"
    assert np.mean(found) == pytest.approx(0.5, abs=0.02)


def test_an_attack_that_ran_in_some_seeds_counts_there() -> None:
    made = [
        record(scenario(seed=seed), "relu1", "none", {"a": [0.3] * 20, "b": second}, key=str(seed))
        for seed, second in enumerate(("refused", "refused", [0.9] * 20))
    ]
    (found,) = evidence(made, "ssim")
    assert found.leakage is not None
    assert (found.leakage.mean, found.attacker, found.seeds) == (pytest.approx(0.9), "b", 1)


def test_attackers_who_know_more_are_not_averaged_with_those_who_know_less() -> None:
    knowing = record(scenario(), "relu1", "none", {"a": [0.9] * 20}, key="1")
    less = scenario(seed=1, threat_model=ThreatModel(grants=()))
    (found,) = evidence([knowing, record(less, "relu1", "none", {"a": [0.1] * 20}, key="2")], "ssim")
    assert found.leakage is not None and found.leakage.mean == pytest.approx(0.9)


def test_a_ceiling_is_satisfied_by_the_mean_and_remarked_where_the_interval_ends_above() -> None:
    found = [
        entry("conv1", leakage=0.5),
        entry("relu2", leakage=0.58),
        entry("fc1", leakage=0.61),
        entry("fc2", leakage=None),
    ]
    answers = {a.evidence.cut: a for a in plan(found, wishes=Wishes(leakage=0.6))}
    assert {cut: answer.misses for cut, answer in answers.items()} == {
        "conv1": (),
        "relu2": (),
        "fc1": ("leakage",),
        "fc2": ("leakage",),
    }
    assert {cut for cut, answer in answers.items() if answer.remark} == {"relu2"}
    assert answers["relu2"].remark == "its leakage may be as high as 0.63, above the ceiling of 0.6"
    said = conclusion(list(answers.values()))
    assert said == (
        "2 of 4 options satisfy every wish, 1 of them by the mean of the leakage alone; "
        "least leaks from conv1 without a defense."
    )
    assert "0.63, above the ceiling of 0.6: more seeds or victims may tell" in conclusion([answers["relu2"]])
    assert not any(answer.remark for answer in plan(found)), "no ceiling, no remark"


def test_options_say_which_wishes_they_miss() -> None:
    found = [entry("conv1"), entry("relu2", accuracy=0.7), entry("fc1", leakage=0.9), entry("fc2", leakage=None)]
    slow = Link(0.1)  # conv1 alone takes 8 · 24 · 24 · 4 bytes, 1.5 s
    answers = {a.evidence.cut: a for a in plan(found, slow, Wishes(latency_ms=1000, accuracy=0.8, leakage=0.6))}
    assert {cut: answer.misses for cut, answer in answers.items()} == {
        "conv1": ("latency",),
        "relu2": ("accuracy",),
        "fc1": ("leakage",),
        "fc2": ("leakage",),  # nobody attacked it, so nobody knows
    }
    assert all(not answer.misses for answer in plan(found, slow))
    assert answers["conv1"].bytes_up == 8 * 24 * 24 * 4
    assert [a.evidence.cut for a in plan(found, slow)][-1] == "conv1", "the slowest comes last"


def test_the_front_holds_what_nothing_dominates() -> None:
    slow = Link(0.1)  # latency is bytes: conv1 > relu2 > fc1
    found = [
        entry("conv1", 0.95, 0.9),
        entry("relu2", 0.9, 0.5),
        entry("relu1", 0.9, 0.6),  # as many bytes as conv1
        entry("fc1", 0.8, 0.7),
        entry("fc2", 0.99, None),
    ]
    answers = plan(found, slow)
    assert {a.label for a in answers if a.on_front} == {"conv1 · none", "relu2 · none", "fc1 · none"}


def test_a_slower_owner_takes_longer() -> None:
    (answer,) = plan([entry("relu2")], slowdown=1e6)
    (usual,) = plan([entry("relu2")])
    assert answer.owner_ms > 20 * usual.owner_ms
    assert answer.latency_ms == answer.owner_ms + answer.wire_ms + answer.server_ms


def test_records_that_do_not_fit_the_model_are_refused() -> None:
    with pytest.raises(RecordError, match="cuts that the model does not have: conv9"):
        plan([entry("conv9"), entry("relu1")])


def test_evidence_is_of_one_model_and_one_setting(tmp_path: Path) -> None:
    asked = scenario()
    for key, made in {"a": asked, "b": scenario(seed=1), "c": scenario(model={"name": "sixconv"})}.items():
        write_record(tmp_path / "run", record(made, "relu1", "none", {"x": [0.5] * 20}, key=key))
    assert [found.key for found in read_evidence(tmp_path, "lenet")] == ["a", "b"]
    assert [found.key for found in read_evidence(tmp_path / "run" / "records", "lenet")] == ["a", "b"]
    copied = record(asked, "relu1", "none", {"x": [0.5] * 20}, key="a")
    write_record(tmp_path / "copy", copied)
    assert len(read_evidence(tmp_path, "lenet")) == 2, "the same trial in two folders is one"
    with pytest.raises(RecordError, match="no record of vit"):
        read_evidence(tmp_path, "vit")
    other = scenario(model={"name": "lenet", "epochs": 1})
    write_record(tmp_path / "other", record(other, "relu1", "none", {"x": [0.5] * 20}, key="d"))
    with pytest.raises(RecordError, match="2 settings of data or training"):
        read_evidence(tmp_path, "lenet")


def test_the_page_holds_every_option_and_asks_the_network_for_nothing(tmp_path: Path) -> None:
    named = Named.model_validate({"name": "gaussian_noise", "sigma": 0.5})
    answers = plan(
        [entry("conv1"), entry("fc1", defense=named), entry("fc2", leakage=None)], wishes=Wishes(leakage=0.4)
    )
    link = Link(10.0, 20.0)
    text = write_plan(tmp_path / "p.html", "<lenet>", "digits", answers, link, Wishes(30, 0.5, 0.4), "ssim").read_text()
    assert text.count('<circle class="ring" r="8.5"') == sum(answer.on_front for answer in answers)
    assert "gaussian_noise sigma=0.5" in text
    assert "unknown" in text
    assert text.count("0.50 [0.45, 0.55]") == 2 * 3, "in the table, the card and what a mark says"
    assert text.count('<path class="whisker"') == 2
    assert "With one seed an interval is over its victims" in text
    assert "&lt;lenet&gt;" in text
    assert "conv1-none" in text, "records behind each option are named"
    assert "http" not in text.replace("http-equiv", "")


def test_options_that_lie_together_share_a_text(tmp_path: Path) -> None:
    answers = plan(
        [
            entry("fc1", leakage=0.5),
            entry("fc1", leakage=0.505, defense=Named.model_validate({"name": "gaussian_noise", "sigma": 1.0})),
        ],
        Link(0.1),
    )
    text = write_plan(tmp_path / "p.html", "lenet", "digits", answers, FAST, NO_WISHES, "ssim").read_text()
    assert text.count(">1, 2</text>") == 1
    assert text.count('class="card"') == 2, "each has a card of its own"


def quickest_ms(model: str, cut: str, link: Link, spec: TensorSpec, enough: float, tries: int = 60) -> float:
    """The time of the inference that was least disturbed, over a connection that is really so slow.

    Whatever else the machine does only adds to it; it ends with the first one that took at most `enough`.
    """
    network = build(model, spec, 10).eval().requires_grad_(False)
    parts, point = split(network, cut), SplitPoint(model, "ab" * 32, cut)
    activation = output_spec(parts.head, spec)
    owner = DataOwner("owner", parts.head, make_defense("none"), point, spec, activation, torch.Generator())
    server = GrpcServer(ComputeServer(parts.tail, point, activation, 10, Transcript()), "127.0.0.1:0")
    quickest = float("inf")
    with (
        server,
        ShapingProxy(server.address, link.bandwidth_mbps, link.round_trip_ms) as proxy,
        GrpcChannel(proxy.address, owner.hello()) as channel,
    ):
        replies = owner.infer(channel, smooth_images(tries, spec), 1)
        start = time.perf_counter()
        for _ in replies:
            quickest = min(quickest, (time.perf_counter() - start) * 1e3)
            if quickest <= enough:
                break
            start = time.perf_counter()
    return quickest


@pytest.mark.parametrize(
    "model, cut, link",
    [
        ("lenet", "fc1", Link(4.0, 60.0)),  # 480 bytes: nearly all is the round trip
        ("lenet", "conv1", Link(4.0, 60.0)),  # 18 kB: 37 ms on the wire
        ("sixconv", "conv11", Link(20.0, 40.0)),  # 262 kB: 105 ms on the wire
    ],
)
def test_predicted_latency_holds_on_a_link_that_is_really_limited(model: str, cut: str, link: Link) -> None:
    spec = TensorSpec((1, 28, 28) if model == "lenet" else (3, 32, 32), low=0.0, high=1.0)
    network = build(model, spec, 10).eval()
    (answer,) = options([entry(cut)], network, spec, 10, link, Wishes(), repeats=5)
    tolerance = 10 + 0.1 * answer.latency_ms
    quickest = quickest_ms(model, cut, link, spec, enough=answer.latency_ms + tolerance)
    assert abs(quickest - answer.latency_ms) <= tolerance


def test_records_of_a_run_are_readable_evidence(tmp_path: Path) -> None:
    made: Record = record(scenario(), "relu1", "none", {"x": [0.5] * 20}, key="a")
    write_record(tmp_path, made)
    (tmp_path / "records" / "b.json").write_text(json.dumps({"key": "b"}))
    with pytest.raises(RecordError, match="not a record of this version"):
        read_evidence(tmp_path, "lenet")
