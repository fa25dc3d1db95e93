"""One record a defense: what was hosted, what its customers found out, and what it cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from pydantic import ValidationError

from experiments.record import MANIFEST, Part, RecordError, record_path
from experiments.statistics import Summary
from split_models.checkpoints import write_atomically

PARTS = ("training rows", "held-out rows")
PRIVATE = "private · "  # before a part's name: its pictures as they are, in a file of pictures
KIND = "hosted model"  # what a manifest says of such a run
Figures = dict[str, Summary]  # accuracy, precision, recall, mcc; of pictures: identified, ssim, psnr_db, mse


class HostedAttack(Part):
    """One attack: done, or refused with the reason."""

    name: str
    label: str
    settings: dict[str, Any]  # all of them, defaults included
    requires: list[str]
    uses: list[str]
    status: Literal["done", "refused"]
    reason: str = ""
    inferred: dict[str, Figures]  # by part
    queries: int = 0  # as the ledger counted them, for all parts
    notes: dict[str, Any]


class HostedUtility(Part):
    """What the answers are worth to an honest customer who asks about held-out rows."""

    plain: dict[str, float]  # of the model without a defense, as it would answer itself
    served: dict[str, float]  # of what came over the API: accuracy and calibration error, or R²
    distortion: float | None = None  # mean distance of what came from what the model would answer itself


class HostRecord(Part):
    """Everything about one hosted model under one defense; `provenance` and `timing` alone differ when run again."""

    schema_version: Literal[1] = 1
    key: str
    defense: str
    scenario: dict[str, Any]
    dataset: dict[str, Any]
    utility: HostedUtility
    explained: tuple[int, ...] = ()  # shape of an explanation as the honest customer got it; empty: none is served
    attacks: list[HostedAttack]
    floors: dict[str, dict[str, Figures]]  # by baseline and part
    ledger: dict[str, int]  # queries of each customer
    warnings: list[str]
    provenance: dict[str, Any]
    timing: dict[str, float]  # seconds


def is_hosting_run(folder: Path) -> bool:
    """Whether the latest run in a folder was one of a hosted model; False where there is none."""
    try:
        return bool(json.loads((folder / MANIFEST).read_bytes()).get("kind") == KIND)
    except (OSError, ValueError, AttributeError):
        return False


def write_host_record(folder: Path, record: HostRecord) -> None:
    """Write a record atomically."""
    write_atomically(record_path(folder, record.key), (record.model_dump_json(indent=1) + "\n").encode())


def read_host_records(folder: Path) -> list[HostRecord]:
    """The records of the latest run in a folder, in the order of its scenario; those not yet there are left out.

    Raises:
        RecordError: the folder holds no run of a hosted model, or a record that cannot be read.
    """
    try:
        keys = [str(key) for key in json.loads((folder / MANIFEST).read_bytes())["keys"]]
        paths = [record_path(folder, key) for key in keys]
        records = [HostRecord.model_validate_json(path.read_bytes()) for path in paths if path.exists()]
    except (OSError, ValueError, KeyError, TypeError, ValidationError) as error:
        first = str(error).splitlines()[0]
        raise RecordError(f"{folder} holds no run of a hosted model ({first}); run its scenario again") from error
    if not records:
        raise RecordError(f"{folder} holds no finished trial; run its scenario again")
    return records
