"""What docs/defenses.md says is what the project does: its example is a defense, and its table names them all."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

import tests.test_every_defense as conformance
from defenses import DEFENSES, DefenseError

PAGE = (Path(__file__).parents[2] / "docs" / "defenses.md").read_text()


def test_the_example_passes_the_conformance_tests(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    source, line = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    path = tmp_path / "grid.py"
    path.write_text(f"from tests.test_every_defense import Case\n{source}\nCASES = {{{line}}}\n")
    spec = importlib.util.spec_from_file_location("grid", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    case = module.CASES["grid"]
    monkeypatch.setitem(DEFENSES, "grid", module.Grid)
    monkeypatch.setitem(conformance.CASES, "grid", case)
    monkeypatch.setitem(conformance.MADE, "grid", module.Grid(**case.felt))
    monkeypatch.setitem(conformance.STRONG, "grid", case.most)
    conformance.test_bytes_on_the_wire_change("grid")
    conformance.test_strength_0_is_the_identity("grid")
    conformance.test_very_high_strength_leaves_nothing_to_a_linear_probe("grid")
    conformance.test_more_strength_is_more_distortion("grid")
    conformance.test_state_survives_a_file("grid", tmp_path)
    conformance.test_a_state_that_does_not_fit_is_refused("grid")
    conformance.test_trains_fits_and_protects_at_every_cut("grid", "ecg", 1, "relu1")
    conformance.test_settings_make_it_again_and_are_printed("grid")
    with pytest.raises(DefenseError, match="grid: expected spacing"):
        module.Grid(spacing=-1.0)


def test_the_table_names_every_defense() -> None:
    table = PAGE[PAGE.index("## What there is") :]
    named = {name for row in re.findall(r"^\| (`.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert named == set(DEFENSES) - {"none"}
