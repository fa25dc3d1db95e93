"""What the README says is what the project does."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from experiments.record import Leakage, Record, read_record
from experiments.runner import run
from experiments.scenario import read_scenario

README = (Path(__file__).parent.parent / "README.md").read_text()
ROOT = Path(__file__).parent.parent


ATTACKS = ("regularized_inversion", "inverse_network", "shadow_model")


def table_rows(folder: Path) -> list[str]:
    """The rows of README's table of a run: a trial each, then the floors, which are the same for all of them."""
    records = [read_record(path) for path in sorted(folder.glob("*.json"))]
    floors = {name: [_cell(records[0].floors[name]), "", "", ""] for name in ("mean_image", "nearest_auxiliary")}
    return [
        *(f"| {record.cut} | {_defense(record)} | {' | '.join(_cells(record))} |" for record in records),
        *(f"| | floor: {name.replace('_', ' ')} | {' | '.join(cells)} |" for name, cells in floors.items()),
    ]


def _cells(record: Record) -> list[str]:
    aware = {outcome.name: outcome.leakage for outcome in record.attacks if not outcome.withheld}
    unaware = {outcome.name: outcome.leakage for outcome in record.attacks if outcome.withheld}
    white_box, *others = (_cell(aware[name]) for name in ATTACKS)
    return [white_box, _cell(unaware[ATTACKS[0]]) if ATTACKS[0] in unaware else "", *others]


def _defense(record: Record) -> str:
    accuracy = f"{record.utility.accuracy_defended:.0%}"
    return f"{record.defense.replace('_', ' ')}, accuracy {accuracy}"


def _cell(leakage: Leakage | None) -> str:
    assert leakage
    psnr, ssim, right = leakage.psnr_db, leakage.ssim, leakage.identification
    return f"{psnr.mean:.1f} ({psnr.low:.1f}–{psnr.high:.1f}) dB, {ssim.mean:.2f}, {right.mean:.0%}"


def test_every_figure_comes_from_a_committed_record() -> None:
    tables = re.findall(r"<!-- records: (\S+) -->\n\|.*\n\|.*\n((?:\|.*\n)+)", README)
    assert len(tables) == 2
    for folder, rows in tables:
        assert sorted(rows.splitlines()) == sorted(table_rows(ROOT / folder))


def test_the_scenario_runs_on_a_users_own_pictures(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    np.savez("pictures.npz", images=rng.integers(0, 255, (500, 32, 32, 3), dtype=np.uint8), labels=np.arange(500) % 3)
    toml = re.search(r"```toml\n(.*?)```", README, re.DOTALL)
    assert toml
    Path("my.toml").write_text(toml[1])
    quick = ["model.epochs=1", "data.victims=4", "transport=in-process"]
    fewer = ["attack.regularized_inversion.iterations=3", "attack.inverse_network.epochs=1"]
    shadow = ["attack.shadow_model.epochs=1", "attack.shadow_model.iterations=3"]
    done = list(run(read_scenario("my.toml", [*quick, *fewer, *shadow]), Path("run")))
    assert [record.defense for _, record, _ in done] == ["none", "laplace_noise scale=0.5"] * 2
    assert all(outcome.status == "done" for _, record, _ in done for outcome in record.attacks)


@pytest.mark.parametrize("command", sorted(set(re.findall(r"^unsmash (\w[\w-]*)", README, re.MULTILINE))))
def test_every_command_exists(command: str) -> None:
    from experiments.cli import app

    assert command in {registered.name for registered in [*app.registered_commands, *app.registered_groups]}


def test_every_file_it_points_to_exists() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target).exists(), target
