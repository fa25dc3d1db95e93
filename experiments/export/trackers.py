"""Records in the trackers that people use, through their own libraries."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from experiments.export.extras import ExportError, wanted
from experiments.record import Record


def figures(record: Record) -> dict[str, float]:
    """A trial's figures by names that every tracker takes: `ssim/shadow_model`, `ssim/floor_mean_image`, `accuracy`."""
    found = {
        "accuracy": record.utility.accuracy,
        "accuracy_defended": record.utility.accuracy_defended,
        "bytes_per_image": float(record.cost.bytes_per_image),
        "seconds": record.timing.get("trial", 0.0),
    }
    leaks = {attack.label: attack.leakage for attack in record.attacks if attack.leakage}
    leaks |= {f"floor_{name}": leakage for name, leakage in record.floors.items()}
    for label, leakage in leaks.items():
        for measure in ("ssim", "psnr_db", "identification", "dtw"):
            if summary := getattr(leakage, measure):
                found[f"{measure}/{_plain(label)}"] = summary.mean
    for one in record.readings:
        for measure, summary in (("right", one.accuracy), ("auc", one.auc)):
            if summary:
                found[f"{measure}/{_plain(one.label)}"] = summary.mean
    return found


def _plain(label: str) -> str:
    return "".join(c if c.isalnum() or c in "._- " else "-" for c in label)


def settings(record: Record) -> dict[str, Any]:
    """What tells trials apart."""
    return {
        "cut": record.cut,
        "defense": record.defense,
        "seed": record.scenario.get("seed"),
        "dataset": record.dataset.get("name"),
        "model": record.scenario.get("model", {}).get("name"),
    }


def to_mlflow(records: Sequence[Record], experiment: str, uri: str) -> int:
    """Log one MLflow run a trial to a server or a local store; trials that are there stay. Returns how many are new.

    Raises:
        ExportError: mlflow is not installed, or cannot use the address.
    """
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    mlflow, entities = wanted("mlflow", "mlflow"), wanted("mlflow.entities", "mlflow")
    try:
        client = mlflow.MlflowClient(tracking_uri=uri)
        known = client.get_experiment_by_name(experiment)
    except mlflow.exceptions.MlflowException as error:
        raise ExportError(f"MLflow at {uri}: {str(error).splitlines()[0]}; give http://… or sqlite:///FILE") from error
    where = known.experiment_id if known else client.create_experiment(experiment)
    new = 0
    for record in records:
        if client.search_runs([where], filter_string=f"tags.`unsmash.trial` = '{record.key}'", max_results=1):
            continue
        run = client.create_run(where, run_name=record.label, tags={"unsmash.trial": record.key})
        params = [entities.Param(key, str(setting)) for key, setting in settings(record).items()]
        metrics = [entities.Metric(key, figure, run.info.start_time, 0) for key, figure in figures(record).items()]
        client.log_batch(run.info.run_id, metrics=metrics, params=params)
        client.set_terminated(run.info.run_id)
        new += 1
    return new


def to_tensorboard(records: Sequence[Record], folder: Path) -> None:
    """Write one TensorBoard run a trial, below a folder for `tensorboard --logdir`.

    Raises:
        ExportError: tensorboard is not installed.
    """
    wanted("tensorboard", "tensorboard")
    writer_of = wanted("torch.utils.tensorboard", "tensorboard").SummaryWriter
    for record in records:
        place = folder / record.key
        if place.exists():  # a second file of events would draw every figure twice
            continue
        with writer_of(str(place)) as writer:
            for key, setting in settings(record).items():
                writer.add_text(key, str(setting))
            for key, figure in figures(record).items():
                writer.add_scalar(key, figure)
