"""What a tuning process runs: `python -m experiments.equal_cost.worker tuner NAME`, obeying its standard input."""

from __future__ import annotations

from parties.tuning import tune_process

tune_process()  # takes effect only before torch is loaded by the imports below

# ruff: noqa: E402
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.equal_cost.tuning import Plan, Tuner, tune_one
from parties.datasets.dataset import DataError
from parties.processes import obey


def main() -> None:
    """Tune defenses until standard input ends."""
    torch.set_num_threads(1)  # results must not depend on the machine
    kept: list[tuple[Plan, Tuner]] = []  # the last tuner: its networks and data serve the next defense as well

    def methods(report: Callable[[float], None]) -> Mapping[str, Callable[..., Any]]:
        def tune(name: str, plan: dict[str, Any], folder: str, data_dir: str | None) -> None:
            asked = Plan(**{**plan, "seeds": tuple(plan["seeds"])})
            where = Path(folder)
            if not kept or kept[0][0] != asked:
                kept[:] = [(asked, Tuner(asked, where, Path(data_dir) if data_dir else None))]
            tune_one(kept[0][1], name, asked.path(where, name), report)

        return {"tune": tune}

    obey(methods, (DataError,))


if __name__ == "__main__":
    main()
