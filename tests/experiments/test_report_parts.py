"""What a report is made of: the choice of victims, the figure, short labels, the scenario to run again."""

from __future__ import annotations

import base64
import io
import tomllib
from pathlib import Path

import torch
from PIL import Image

from attacks.knowledge import Capability
from experiments.report import figure, gallery, reproduce, tables, wording
from experiments.scenario import Scenario, bundled, read_scenario
from tests.experiments.synthetic import pictures, record, scenario, write_run

WEAK = [0.2] * 20


def test_large_pictures_are_scaled_down() -> None:
    source = gallery.data_uri(torch.rand(3, 200, 100))
    assert Image.open(io.BytesIO(base64.b64decode(source.split(",")[1]))).size == (48, 96)


def test_victims_are_chosen_by_how_much_leaks_of_them() -> None:
    ssim = [((7 * i) % 20) / 20 for i in range(20)]
    made = record(scenario(), "relu1", "none", {"regularized_inversion": ssim, "inverse_network": [0.01] * 20})
    chosen, groups = gallery.choose([made], shown=6)
    ranked = sorted(range(20), key=lambda i: -ssim[i])
    assert chosen == [*ranked[:2], *ranked[9:11], *ranked[-2:]]
    assert groups == [("Leak most", 2), ("Typical", 2), ("Leak least", 2)]


def test_trials_that_saw_the_victims_in_another_order_line_up(tmp_path: Path) -> None:
    order = list(range(20))[::-1]
    ssim = [i / 20 for i in range(20)]
    plain = record(scenario(), "relu1", "none", {"inverse_network": ssim})
    turned = record(
        scenario(), "relu1", "gaussian_noise sigma=0.5", {"inverse_network": [ssim[i] for i in order]}, victims=order
    )
    assert gallery.choose([plain, turned])[0] == gallery.choose([plain])[0]
    wall = gallery.galleries(write_run(tmp_path, [plain, turned]), [plain, turned], pictures=True)[0]
    first, second = (block.strips[0].pictures for block in wall.blocks[:2])
    assert [picture.ssim for picture in first] == [picture.ssim for picture in second]
    expected = [
        gallery.data_uri(pictures(turned)["attack inverse_network"][order.index(c.index)]) for c in wall.columns
    ]
    assert [picture.source for picture in second] == expected


def test_the_figure_stays_within_its_frame_and_tells_attacks_apart() -> None:
    labels = {f"attack_{i} with_a_rather_long_setting={i}.000001": [-0.4 + 0.05 * i, 0.9] * 10 for i in range(20)}
    panel = figure.panels([record(scenario(), "relu1", "none", labels)])[0]
    marks = panel.groups[0].marks
    for mark in marks:
        assert mark.x is not None and figure.LEFT <= mark.low <= mark.x <= mark.high <= figure.RIGHT
        assert len(mark.label) <= figure.LABEL_LENGTH and mark.y < panel.height
    assert len({(mark.series, mark.shape) for mark in marks}) == len(marks)
    assert [mark.x for mark in marks] == sorted(mark.x or 0 for mark in marks)


def test_labels_keep_what_tells_attacks_apart() -> None:
    labels = ["inversion step=0.05 weight=1", "inversion step=0.05 weight=2", "network width=24"]
    short = tables.short_labels(labels, 30)
    assert list(short.values()) == ["inversion weight=1", "inversion weight=2", "network width=24"]
    assert tables.short_labels(["abcdefghij"], 7) == {"abcdefghij": "abc…hij"}


def test_the_scenario_reads_back_equal() -> None:
    odd = {
        "name": "odd",
        "text": 'a "b" \\ \t ü',
        "weights": [0.5, 1e-7],
        "on": True,
        "of": {"a b": 1},
    }
    for asked in [scenario(attacks=[odd]), *map(read_scenario, bundled())]:
        assert Scenario.model_validate(tomllib.loads(reproduce.toml(asked))) == asked


def test_the_command_names_a_bundled_scenario_only_if_it_is_that_one() -> None:
    asked = read_scenario("quickstart")
    made = [record(asked, trial.cut, trial.defense.label, {"inverse_network": WEAK}) for trial in asked.trials()]
    assert reproduce.command(reproduce.scenario_of("quickstart", made)) == "unsmash run quickstart"
    assert reproduce.command(reproduce.scenario_of("quickstart", made[:2])) == "unsmash run quickstart.toml"
    other = [one.model_copy(update={"scenario": {**one.scenario, "seed": 7}}) for one in made]
    assert reproduce.command(reproduce.scenario_of("quickstart", other)) == "unsmash run quickstart.toml"


def test_records_of_an_earlier_run_keep_their_defenses() -> None:
    early = record(scenario(defenses=[{"name": "none"}]), "relu1", "none", {"inverse_network": WEAK})
    noise = scenario(defenses=[{"name": "gaussian_noise", "sigma": 0.5}])
    late = record(noise, "relu1", "gaussian_noise sigma=0.5", {"inverse_network": WEAK})
    merged = reproduce.scenario_of("both", [early, late])
    assert [entry.label for entry in merged.defenses] == ["none", "gaussian_noise sigma=0.5"]
    assert merged.cuts == ("relu1",)


def test_every_capability_has_words() -> None:
    assert set(wording.CAPABILITIES) == set(Capability)
