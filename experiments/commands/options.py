"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

ScenarioName = Annotated[str, typer.Argument(help="A bundled scenario's name or the path of a TOML file.")]
Overrides = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change one value: seed=1, defense.sigma=0.5, data.victims=100."),
]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder of the data sets that are read from files.", envvar="UNSMASH_DATA"),
]
