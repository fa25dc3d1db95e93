"""Where to cut and what to defend with: what records say about leakage and accuracy, beside a predicted latency."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, mode
from typing import Any, Literal

import torch
from torch import nn

from defenses import make_defense
from experiments.record import Record, RecordError, read_record
from experiments.report.pooling import alike, measured, within
from experiments.scenario import Named
from experiments.statistics import Summary, cross_fitted, over_seeds
from parties.wire.layout import HEADER_BYTES
from split_models.cut_points import CutPoint, cut_points, median_ms
from split_models.randomness import generator_for
from split_models.tensor_spec import TensorSpec

Measure = Literal["ssim", "psnr_db", "identification"]

FRAMING_BYTES = 14
"""Around each message: 9 of HTTP/2 and 5 of gRPC."""


@dataclass(frozen=True)
class Link:
    """The network between owner and server; each direction has the whole bandwidth."""

    bandwidth_mbps: float
    round_trip_ms: float = 0.0

    def exchange_ms(self, bytes_up: int, bytes_down: int) -> float:
        """From the first byte of a request to the last of its reply, without computing; payloads of one message."""
        sent = bytes_up + bytes_down + 2 * (HEADER_BYTES + FRAMING_BYTES)
        return self.round_trip_ms + sent * 8 / (self.bandwidth_mbps * 1e3)


@dataclass(frozen=True)
class Wishes:
    """What an answer has to satisfy; None asks for nothing."""

    latency_ms: float | None = None  # at most, for one inference of one input
    accuracy: float | None = None  # at least, as a fraction
    leakage: float | None = None  # at most, by its mean, in the measure that the evidence is read in


@dataclass(frozen=True)
class Evidence:
    """What the records of one cut under one defense say."""

    cut: str
    defense: Named
    accuracy: float  # mean over records
    leakage: Summary | None  # of the strongest attacker, over seeds and victims; None if every attack was refused
    attacker: str  # chosen as the strongest most often
    seeds: int  # behind the leakage; with 1 its interval says nothing about another training
    keys: tuple[str, ...]  # of the records


@dataclass(frozen=True)
class Option:
    """One cut under one defense, with everything that decides about it."""

    evidence: Evidence
    owner_ms: float  # head and defense
    wire_ms: float
    server_ms: float
    bytes_up: int
    misses: tuple[str, ...]  # which wishes it does not satisfy
    remark: str  # where leakage satisfies the wish by its mean alone; else empty
    on_front: bool = False  # no other option is at least as good in latency, accuracy and leakage, and better in one

    @property
    def latency_ms(self) -> float:
        """Predicted, for one inference of one input."""
        return self.owner_ms + self.wire_ms + self.server_ms

    @property
    def label(self) -> str:
        """Cut and defense."""
        return f"{self.evidence.cut} · {self.evidence.defense.label}"


def read_evidence(folder: Path, model: str) -> list[Record]:
    """The records of a model below the folder of a run or a study, all made with the same data and training.

    Raises:
        RecordError: there are none, one cannot be read, or they are not comparable.
    """
    paths = sorted(folder.rglob("records/*.json")) or sorted(folder.glob("*.json"))
    # A trial that lies in two folders is one measurement, not two seeds.
    distinct = {record.key: record for record in map(read_record, paths)}.values()
    found = [record for record in distinct if record.scenario["model"]["name"] == model]
    if not found:
        raise RecordError(f"no record of {model} below {folder}; run a scenario of it with the cuts you consider")
    settings = {json.dumps([record.scenario["data"], record.scenario["model"]], sort_keys=True) for record in found}
    if len(settings) > 1:
        raise RecordError(
            f"the records of {model} below {folder} come from {len(settings)} settings of data or training, "
            "so their accuracies and leakages cannot be compared; give the folder of one"
        )
    return found


def evidence(records: Sequence[Record], measure: Measure) -> list[Evidence]:
    """One entry for each cut under each defense: leakage is the worst case over all attacks of all its records.

    Records that differ in their seed alone are one measurement, with its interval over seeds, then victims; its
    strongest attack is cross-fitted, as studies have it. Of several measurements that of the largest mean counts.
    """
    groups: dict[tuple[str, str], list[Record]] = defaultdict(list)
    for record in records:
        groups[record.cut, record.defense].append(record)
    return [
        Evidence(
            cut,
            _defense(members[0]),
            fmean(record.utility.accuracy_defended for record in members),
            *_worst(members, measure),
            tuple(record.key for record in members),
        )
        for (cut, _), members in groups.items()
    ]


def options(
    found: Sequence[Evidence],
    model: nn.Module,
    input_spec: TensorSpec,
    classes: int,
    link: Link,
    wishes: Wishes,
    *,
    owner_slowdown: float = 1.0,
    repeats: int = 15,
    report: Callable[[float], None] = lambda fraction: None,
) -> list[Option]:
    """Every entry of evidence with its predicted latency, the quickest first; the front is marked.

    Times are measured on this machine; the owner's are multiplied by `owner_slowdown`.

    Raises:
        RecordError: the records speak of a cut that the model does not have.
    """
    points = {point.name: point for point in cut_points(model, input_spec, repeats, report)}
    if unknown := sorted({entry.cut for entry in found} - set(points)):
        raise RecordError(f"the records speak of cuts that the model does not have: {', '.join(unknown)}")
    made = []
    for entry in found:
        point = points[entry.cut]
        owner_ms = owner_slowdown * (point.owner_ms + _defense_ms(entry.defense, input_spec, point, repeats))
        bytes_up = point.activation.bytes_per_sample
        wire_ms = link.exchange_ms(bytes_up, TensorSpec((classes,)).bytes_per_sample)
        misses = _misses(entry, owner_ms + wire_ms + point.server_ms, wishes)
        remark = _remark(entry, wishes)
        made.append(Option(entry, owner_ms, wire_ms, point.server_ms, bytes_up, misses, remark))
    return sorted(_with_front(made), key=lambda option: option.latency_ms)


def _defense(record: Record) -> Named:
    named = [Named.model_validate(table) for table in record.scenario["defenses"]]
    return next((entry for entry in named if entry.label == record.defense), Named(name=record.defense))


def _worst(records: Sequence[Record], measure: Measure) -> tuple[Summary | None, str, int]:
    """The strongest attacker's leakage and name, and over how many seeds."""
    found = []
    for group in _measurements(records):
        fitted = cross_fitted(measured(group, measure))
        found.append((within(measure, over_seeds(fitted.columns)), mode(fitted.chosen), len(group)))
    return max(found, key=lambda entry: entry[0].mean, default=(None, "", 0))


def _measurements(records: Sequence[Record]) -> list[list[Record]]:
    """Records in groups that differ in their seed alone, and in which the same attacks ran: at least one."""
    groups: dict[tuple[int, tuple[str, ...]], list[Record]] = defaultdict(list)
    for number, group in enumerate(alike(records)):
        for record in group:
            ran = tuple(outcome.label for outcome in record.attacks if outcome.leakage)
            groups[number, ran].append(record)
    return [group for (_, ran), group in groups.items() if ran]


def _defense_ms(entry: Named, input_spec: TensorSpec, point: CutPoint, repeats: int) -> float:
    defense = make_defense(entry.name, entry.settings)
    defense.attach(input_spec, point.activation)
    defense.eval()
    inputs, activations = torch.ones(1, *input_spec.shape), torch.ones(1, *point.activation.shape)
    generator = generator_for(0, "planner")

    def protect() -> None:
        with torch.no_grad():
            defense.protect_inputs(inputs, generator)
            defense.protect(activations, generator)

    return median_ms([protect], repeats)[0]


def _misses(entry: Evidence, latency_ms: float, wishes: Wishes) -> tuple[str, ...]:
    missed: dict[str, bool] = {
        "latency": wishes.latency_ms is not None and latency_ms > wishes.latency_ms,
        "accuracy": wishes.accuracy is not None and entry.accuracy < wishes.accuracy,
        # What nobody has attacked is not safe, it is unknown.
        "leakage": wishes.leakage is not None and (entry.leakage is None or entry.leakage.mean > wishes.leakage),
    }
    return tuple(name for name, is_missed in missed.items() if is_missed)


def _remark(entry: Evidence, wishes: Wishes) -> str:
    if entry.leakage is None or wishes.leakage is None or not entry.leakage.mean <= wishes.leakage < entry.leakage.high:
        return ""
    return f"its leakage may be as high as {entry.leakage.high:.2f}, above the ceiling of {wishes.leakage:g}"


def _with_front(made: list[Option]) -> list[Option]:
    """Mark the options that no other one dominates; one without a measured leakage is never on the front."""

    def costs(option: Option) -> tuple[float, float, float]:
        leakage = option.evidence.leakage
        return option.latency_ms, -option.evidence.accuracy, float("inf") if leakage is None else leakage.mean

    def dominates(one: Option, other: Option) -> bool:
        pairs: list[tuple[Any, Any]] = list(zip(costs(one), costs(other), strict=True))
        return all(a <= b for a, b in pairs) and any(a < b for a, b in pairs)

    return [
        Option(
            **{
                **option.__dict__,
                "on_front": option.evidence.leakage is not None and not any(dominates(other, option) for other in made),
            }
        )
        for option in made
    ]
