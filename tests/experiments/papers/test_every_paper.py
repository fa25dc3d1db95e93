"""What holds for every paper that is reproduced: its quick size runs, resumes, and lays figures side by side."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path

import pytest

from experiments.papers import PAPERS, PaperError, make_paper
from experiments.papers.bench import adopt, cell_path, matching, measure, results, write_comparison
from experiments.papers.paper import Plan
from parties.datasets.dataset import DATA_VARIABLE
from parties.processes import PartyError
from tests.experiments.runs import start_unsmash

needs_data = pytest.mark.skipif(not os.environ.get(DATA_VARIABLE), reason=f"set {DATA_VARIABLE} to measure papers")
every_paper = pytest.mark.parametrize("name", PAPERS)


@every_paper
def test_cells_are_distinct_and_every_seed_has_the_same(name: str) -> None:
    paper = make_paper(name)
    for dataset in paper.datasets:
        for quick in (True, False):
            cells = paper.cells(Plan(dataset, 3, quick))
            assert len({cell.key for cell in cells}) == len(cells)
            by_seed = [{(c.row, c.column) for c in cells if c.seed == seed} for seed in range(3)]
            assert by_seed[0] == by_seed[1] == by_seed[2] != set()


@pytest.mark.needs_data
@needs_data
@every_paper
def test_the_quick_size_runs_and_its_figures_stand_beside_the_published(name: str, tmp_path: Path) -> None:
    paper = make_paper(name)
    plan = Plan(paper.datasets[0], seeds=1, quick=True)
    fractions = []
    found = list(measure(paper, plan, tmp_path, None, lambda lane, step, fraction: fractions.append(fraction), 2))
    assert sorted(cell.key for cell, _ in found) == sorted(cell.key for cell in paper.cells(plan))
    assert not any(reused for _, reused in found)
    assert all(0 <= fraction <= 1 for fraction in fractions)
    rows, path = write_comparison(paper, plan, tmp_path)
    assert any(set(row.published) & set(row.measured) for row in rows)
    for row in rows:
        assert set(row.measured) <= set(paper.figures)
        assert all(math.isfinite(s.mean) and s.low <= s.mean <= s.high for s in row.measured.values())
    record = json.loads(path.read_bytes())
    assert record["plan"]["quick"]
    assert len(record["rows"]) == len(rows)
    cell_path(tmp_path, plan, found[0][0]).unlink()
    again = list(measure(paper, plan, tmp_path, None, lambda lane, step, fraction: None))
    assert [cell for cell, reused in again if not reused] == [found[0][0]], "what was measured is kept"


def test_some_cells_are_chosen_by_pattern_and_one_that_matches_none_is_an_error() -> None:
    paper, plan = make_paper("he2019"), Plan("mnist", 2, quick=False)
    found = matching(paper, plan, ["conv1 · white box", "relu2 · query-free, *, same net"])
    assert len(found) == 2 * (1 + 2)
    assert matching(paper, plan, []) == paper.cells(plan)
    with pytest.raises(PaperError, match=r"no cell matches conv7.*; patterns are of: conv1 · white box; "):
        matching(paper, plan, ["conv7*"])


def test_what_was_not_measured_here_is_taken_from_an_earlier_record_and_says_which_commit_made_it(
    tmp_path: Path,
) -> None:
    paper, plan = make_paper("he2019"), Plan("mnist", 3, quick=False, first_seed=100)
    record = Path("experiments/reproductions/he2019/he2019-mnist.json")
    mine = paper.cells(plan)[0]
    kept = {name: [1.0, 2.0] for name in paper.figures}
    place = cell_path(tmp_path, plan, mine)
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(kept))
    adopt(paper, plan, tmp_path, record)
    assert json.loads(place.read_bytes()) == kept
    cells = results(paper, plan, tmp_path)
    assert set(cells) == set(paper.cells(plan))
    assert all(len(values["commit"]) >= 40 for cell, values in cells.items() if cell != mine)
    with pytest.raises(PaperError, match="expected a record of he2020 on mnist, got he2019 on mnist"):
        adopt(make_paper("he2020"), Plan("mnist", 1, False), tmp_path, record)
    with pytest.raises(PaperError, match=r"own\.json is no record"):
        adopt(paper, plan, tmp_path, tmp_path / "own.json")


def test_an_unknown_paper_names_those_there_are() -> None:
    with pytest.raises(PaperError, match="unknown paper 'he2091'.*" + ", ".join(PAPERS)):
        make_paper("he2091")


def test_a_data_set_without_figures_is_refused_in_one_line(tmp_path: Path) -> None:
    process = start_unsmash("reproduce", "he2020", "--dataset", "digits", "--out", str(tmp_path / "out"))
    out, err = process.communicate(timeout=60)
    assert process.returncode == 2
    assert "he2020 has no figures for 'digits'; use one of: mnist" in err
    assert not (tmp_path / "out").exists()
    assert out == ""


def test_what_goes_wrong_in_a_measuring_process_is_said_and_nothing_is_half_written(tmp_path: Path) -> None:
    paper = make_paper("he2020")
    plan = Plan("mnist", seeds=1, quick=True)
    with pytest.raises(PartyError, match=r"data directory .*nowhere.* does not exist"):
        list(measure(paper, plan, tmp_path, tmp_path / "nowhere", lambda lane, step, fraction: None))
    assert not list(tmp_path.rglob("*.json"))
