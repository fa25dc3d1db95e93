"""What a measuring process runs: `python -m experiments.papers.worker PAPER LANE`, obeying its standard input."""

from __future__ import annotations

from parties.tuning import tune_process

tune_process()  # takes effect only before torch is loaded by the imports below

# ruff: noqa: E402
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from experiments.papers import make_paper
from experiments.papers.bench import cell_path
from experiments.papers.paper import COMMIT, Cell, PaperError, Plan, Workplace
from experiments.provenance import provenance
from parties.datasets.dataset import DataError
from parties.processes import obey
from split_models.checkpoints import write_atomically


def main() -> None:
    """Measure cells of the paper that the command line names until standard input ends."""
    torch.set_num_threads(1)  # results must not depend on the machine
    paper = make_paper(sys.argv[1])

    def methods(report: Callable[[float], None]) -> Mapping[str, Callable[..., Any]]:
        def measure(cell: dict[str, Any], plan: dict[str, Any], folder: str, data_dir: str | None) -> None:
            what, how = Cell(**cell), Plan(**plan)
            place = Workplace(Path(folder), Path(data_dir) if data_dir else None, report)
            values = {**paper.measure(what, how, place), COMMIT: provenance()["commit"]}
            write_atomically(cell_path(place.folder, how, what), json.dumps(values).encode())

        return {"measure": measure}

    obey(methods, (DataError, PaperError))


if __name__ == "__main__":
    main()
