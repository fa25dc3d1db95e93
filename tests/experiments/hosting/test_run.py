"""A hosted model under defenses, attacked by customers: whole runs over real processes."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import pytest

from experiments.hosting.record import HostRecord, read_host_records
from experiments.hosting.report import write_hosting_report
from experiments.hosting.runner import run_hosting
from experiments.hosting.scenario import bundled_hosts, is_host_scenario, read_host_scenario
from experiments.record import RecordError
from experiments.scenario import ScenarioError
from tests.experiments.hosting.made_up import write_survey
from tests.experiments.runs import none_left, parties_of, start_unsmash

SMALL = """
name = "small"

[table]
name = "steak"

[host]
max_batch = 16

[[defenses]]
name = "none"

[[defenses]]
name = "privacy_guard"
scale = 0.3

[[attacks]]
name = "map_confusion"

[[attacks]]
name = "tree_paths"

[threat_model]
query_budget = 300
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_survey(tmp_path / "data")


@pytest.fixture
def scenario(tmp_path: Path) -> str:
    (tmp_path / "small.toml").write_text(SMALL)
    return str(tmp_path / "small.toml")


def records_of(scenario: str, out: Path, data: Path, *overrides: str) -> list[HostRecord]:
    chosen = read_host_scenario(scenario, overrides)
    list(run_hosting(chosen, out, data, lambda step, fraction: None))
    return read_host_records(out)


def test_processes_and_one_process_give_the_same_records(scenario: str, data: Path, tmp_path: Path) -> None:
    far = records_of(scenario, tmp_path / "far", data)
    near = records_of(scenario, tmp_path / "near", data, "transport=in-process")
    for one, other in zip(far, near, strict=True):
        left, right = (record.model_dump(exclude={"provenance", "timing", "scenario"}) for record in (one, other))
        assert left == right
    none, guarded = far
    mapped, paths = none.attacks
    assert mapped.inferred["training rows"]["mcc"].mean > 0.5  # the made-up survey says who cheated
    assert mapped.queries == 240  # two levels for each of 120 victims
    assert paths.queries == 0
    assert none.ledger == {"attacker-0": 240, "honest": 60}
    assert none.utility.plain == none.utility.served
    assert guarded.utility.plain != guarded.utility.served


def test_what_is_not_granted_is_refused_with_its_reason(scenario: str, data: Path, tmp_path: Path) -> None:
    (none, _) = records_of(scenario, tmp_path / "out", data, "threat_model.query_budget=130", "transport=in-process")
    assert none.attacks[0].status == "refused"
    assert "130 queries" in none.attacks[0].reason or "10 are left" in none.attacks[0].reason
    assert none.attacks[0].inferred == {}
    assert none.attacks[0].queries == none.ledger["attacker-0"] == 120
    (ungranted, _) = records_of(
        scenario, tmp_path / "less", data, "threat_model.grants=['queries','marginals']", "transport=in-process"
    )
    assert "map_confusion needs performance" in ungranted.attacks[0].reason
    assert "tree_paths needs weights" in ungranted.attacks[1].reason


def test_the_command_resumes_reports_and_lists(scenario: str, data: Path, tmp_path: Path) -> None:
    arguments = ("run", scenario, "--data-dir", str(data), "--out", str(tmp_path / "out"))
    process = start_unsmash(*arguments, COLUMNS="160")
    parties_of(tmp_path / "out" / "logs", 3)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    assert none_left(tmp_path / "out" / "logs")
    out, err = start_unsmash(*arguments, COLUMNS="160").communicate(timeout=100)
    assert err == ""
    assert "privacy_guard scale=0.3" in out
    assert none_left(tmp_path / "out" / "logs")
    assert not list((tmp_path / "out").glob(".scratch-*"))
    chosen = read_host_scenario(scenario)
    assert [reused for _, reused in run_hosting(chosen, tmp_path / "out", data, lambda step, done: None)] == [True] * 2
    shown, err = start_unsmash("report", str(tmp_path / "out"), COLUMNS="160").communicate(timeout=60)
    assert "map_confusion" in shown, err
    page = (tmp_path / "out" / "report.html").read_text()
    assert "privacy_guard" in page
    assert "http" not in page.split("</style>")[1]


def test_text_in_a_scenario_is_escaped_in_the_report(scenario: str, data: Path, tmp_path: Path) -> None:
    records = records_of(scenario, tmp_path / "out", data, "description='<script>x</script>'", "transport=in-process")
    assert "<script>" not in write_hosting_report(tmp_path / "out", records).read_text()


@pytest.mark.parametrize("name", bundled_hosts())
def test_bundled_scenarios_are_valid(name: str) -> None:
    assert is_host_scenario(name)
    scenario = read_host_scenario(name)
    assert scenario.name == name
    assert scenario.description == bundled_hosts()[name]


MISTAKES = {
    "table.nam=3": "table.nam",
    "table.name=adlut": "unknown table 'adlut'; use one of: steak",
    "attacks=[{name='magic'}]": "unknown attack 'magic'",
    "attacks=[{name='map_confusion', x=1}]": "unknown setting 'x'",
    "defenses=[{name='hope'}]": "unknown defense 'hope'; use one of: none, rounding",
    "defense.scale=-1": "scale",
    "defenses=[{name='functional_mechanism', epsilon=1.0}]": "suits linear, got decision_tree",
    "defenses=[{name='none'}, {name='none'}]": "expected each entry once",
    "host.explanation=gradient": "expected a network over images to explain, got decision_tree",
}


@pytest.mark.parametrize("override", MISTAKES)
def test_mistakes_are_named(override: str, scenario: str) -> None:
    with pytest.raises(ScenarioError, match=MISTAKES[override]):
        read_host_scenario(scenario, [override])


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text(json.dumps({"keys": []}))
    with pytest.raises(RecordError, match="holds no finished trial"):
        read_host_records(tmp_path)
