"""Series from the data set to the report: the same journey as images, with dynamic time warping beside it."""

from __future__ import annotations

import base64
import csv
import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from experiments.export.table import rows, write_csv
from experiments.metrics.image_similarity import similarity
from experiments.metrics.warping import dynamic_time_warping
from experiments.record import Record
from experiments.report import gallery, tables
from experiments.report.html import write_report
from experiments.report.pooling import pooled
from experiments.runner import run
from experiments.scenario import Scenario
from split_models.tensor_spec import TensorSpec
from tests.support import smooth_images

SERIES = TensorSpec((1, 32), low=0.0, high=1.0)


def by_the_book(first: np.ndarray, second: np.ndarray) -> float:
    """The recursion of Sakoe and Chiba over (C, L) and (C, M), cell by cell."""
    cost = np.full((first.shape[1] + 1, second.shape[1] + 1), np.inf)
    cost[0, 0] = 0
    for i in range(first.shape[1]):
        for j in range(second.shape[1]):
            step = np.linalg.norm(first[:, i] - second[:, j])
            cost[i + 1, j + 1] = step + min(cost[i, j], cost[i, j + 1], cost[i + 1, j])
    return float(cost[-1, -1])


@pytest.mark.parametrize("channels, other", [(1, 20), (1, 7), (3, 20)])
def test_warping_is_that_of_the_plain_recursion(channels: int, other: int) -> None:
    one, two = smooth_images(4, TensorSpec((channels, 20)), 1), smooth_images(4, TensorSpec((channels, other)), 2)
    expected = [by_the_book(a.double().numpy(), b.double().numpy()) for a, b in zip(one, two, strict=True)]
    assert dynamic_time_warping(one, two) == pytest.approx(expected)


def test_a_shift_in_time_costs_warping_less_than_it_costs_psnr() -> None:
    beat = torch.zeros(1, 1, 60)
    beat[..., 20:24] = 1.0
    late, off = beat.roll(5, dims=-1), beat + 0.1
    assert dynamic_time_warping(beat, late) == pytest.approx(0.0)
    assert dynamic_time_warping(beat, off) > 1.0
    assert similarity(beat, late).psnr_db < similarity(beat, off).psnr_db


def test_other_shapes_are_refused() -> None:
    for other in ((2, 1, 9), (1, 2, 9), (1, 9)):
        with pytest.raises(ValueError, match="expected series"):
            dynamic_time_warping(torch.zeros(1, 1, 9), torch.zeros(other))


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Record]]:
    """A run over series of the user's own, in the network that was made for heartbeats."""
    folder = tmp_path_factory.mktemp("series")
    labels = np.arange(140) % 2
    series = smooth_images(140, SERIES).numpy() * (0.4 + 0.6 * labels[:, None, None])
    np.savez(folder / "mine.npz", series=series, labels=labels)
    scenario = Scenario.model_validate(
        {
            "name": "series",
            "transport": "in-process",
            "cuts": ["conv1"],
            "data": {
                "name": str(folder / "mine.npz"),
                "train": 60,
                "auxiliary": 40,
                "validation": 10,
                "victims": 6,
                "test": 20,
            },
            "model": {"name": "ecg", "epochs": 3},
            "attacks": [
                {"name": "regularized_inversion", "iterations": 40},
                {"name": "inverse_network", "epochs": 1, "width": 8},
            ],
        }
    )
    return folder / "run", [record for _, record, _ in run(scenario, folder / "run")]


def test_what_crossed_the_wire_is_inverted_and_judged_as_series(finished: tuple[Path, list[Record]]) -> None:
    _, (record,) = finished
    assert record.dataset["input_shape"] == [1, 32]
    solved, decoded = (attack.leakage for attack in record.attacks)
    assert solved and decoded and solved.dtw and decoded.dtw
    assert solved.psnr_db.mean > 60, "a convolution of 16 filters over one channel hides nothing"
    assert solved.dtw.mean < 0.05 < decoded.dtw.mean
    assert len(solved.per_victim["dtw"]) == 6
    assert record.floors["mean_image"].dtw is not None


def test_tables_take_the_smallest_distance_for_the_worst(finished: tuple[Path, list[Record]], tmp_path: Path) -> None:
    folder, (record,) = finished
    labels = tables.attack_labels([record])
    row = next(row for row in tables.result_rows(record, labels, []) if row.measure == "DTW")
    assert [cell.worst for cell in row.attacks] == [True, False]
    again = record.model_copy(update={"scenario": {**record.scenario, "seed": 1}})
    both = pooled([record, again])[0].attacks[0].leakage
    assert both and both.dtw and both.dtw.low >= 0
    write_csv(list(rows([record])), tmp_path / "table.csv")
    with (tmp_path / "table.csv").open(newline="") as file:
        assert all(float(line["dtw"]) >= 0 for line in csv.DictReader(file))
    page = write_report(folder, pictures=True).read_text()
    assert "dynamic time warping" in page
    assert page.count("data:image/png") >= 12


def test_a_series_is_drawn_as_a_line() -> None:
    rising = torch.linspace(0, 1, 50)[None]
    drawn = Image.open(io.BytesIO(base64.b64decode(gallery.data_uri(rising).split(",")[1])))
    dark = np.asarray(drawn) < 128
    rows = [np.flatnonzero(dark[:, column]).mean() for column in (10, 48, 86)]
    assert rows[0] > rows[1] > rows[2], "0 is at the bottom and 1 at the top"
    assert dark.mean() < 0.15
