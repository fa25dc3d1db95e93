"""Where the console command starts: tune the process first, then load what takes time."""

from __future__ import annotations

from parties.tuning import tune_process


def main() -> None:
    """Run the `unsmash` command."""
    tune_process(processes=1)  # takes effect only before torch is loaded
    from experiments.cli import main as run

    run()
