"""Secrets that are read off activations without rebuilding inputs, and what a reading of them is worth."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from attacks import make_reading
from attacks.knowledge import LABEL
from attacks.readings import READINGS
from experiments.record import Read, ReadingOutcome
from experiments.scenario import Scenario, ScenarioError, Trial
from experiments.statistics import Summary, summarise
from experiments.statistics.intervals import CONFIDENCE, RESAMPLES
from experiments.trial import Attacked
from parties.datasets.dataset import LabelledImages


def check_secrets(scenario: Scenario, attributes: Collection[str]) -> None:
    """Check that the data say something of each secret that is to be read.

    Raises:
        ScenarioError: naming the secrets that there are.
    """
    for entry in scenario.readings:
        secret = make_reading(entry.name, entry.settings).settings.secret
        if secret not in (LABEL, *attributes):
            raise ScenarioError(
                f"{entry.label}: {scenario.data.name} says nothing of {secret!r}; use one of: "
                f"{', '.join([LABEL, *attributes])}"
            )


def judged(
    trial: Trial, attacked: Attacked, victims: LabelledImages, owners: Sequence[str], auxiliary: LabelledImages
) -> ReadingOutcome:
    """Compare what was read with the victims' secrets, and with the attacker's best guess without an activation.

    `owners` says whose each victim is.
    """
    entry, answer, scores = attacked.entry, attacked.answer, attacked.found
    cls, settings = READINGS[entry.name], make_reading(entry.name, entry.settings).settings
    outcome = ReadingOutcome(
        name=entry.name,
        label=trial.scenario.attack_label(entry, attacked.withheld),
        secret=settings.secret,
        settings=settings.model_dump(mode="json"),
        requires=sorted(cls.requires),
        uses=sorted(cls.uses & set(trial.scenario.threat_model.grants) - attacked.withheld),
        withheld=sorted(attacked.withheld),
        status="refused" if scores is None else "done",
        reason=answer.get("refused", ""),
    )
    if scores is None:
        return outcome
    truth, guess = secret_of(victims, settings.secret), int(secret_of(auxiliary, settings.secret).mode().values)
    whole, notes = _worth(scores, truth, guess), dict(answer["notes"])
    theirs = {owner: torch.tensor([one == owner for one in owners]) for owner in sorted(set(owners))}
    return outcome.model_copy(
        update={
            "values": scores.shape[1],
            "majority": whole.majority,
            "accuracy": whole.accuracy,
            "auc": whole.auc,
            "right": (scores.argmax(1) == truth).tolist(),
            "owners": {owner: _worth(scores[rows], truth[rows], guess) for owner, rows in theirs.items()}
            if len(theirs) > 1
            else {},
            "queries": notes.pop("queries", 0),
            "notes": notes,
        }
    )


def _worth(scores: Tensor, truth: Tensor, guess: int) -> Read:
    return Read(
        victims=len(truth),
        majority=float((truth == guess).double().mean()),
        accuracy=summarise((scores.argmax(1) == truth).double().numpy()),
        auc=area_under_curve(scores.numpy(), truth.numpy()),
    )


def secret_of(part: LabelledImages, name: str) -> Tensor:
    """The labels, or an attribute, of each image: (N,)."""
    return part.labels if name == LABEL else part.attributes[name]


def area_under_curve(scores: npt.NDArray[np.float32], truth: npt.NDArray[np.int64], seed: int = 0) -> Summary | None:
    """Area under the ROC curve of each value against the others, averaged over the values that victims have.

    `scores` (N, values), `truth` (N,); 0.5 is guessing. The 95 % interval is a percentile bootstrap over victims. None
    where all victims have one value. As a Mann-Whitney statistic (Hanley and McNeil 1982): how often a victim who has a
    value scores higher for it than one who has not, ties counted half.
    """
    weights = np.random.default_rng(seed).multinomial(len(truth), np.full(len(truth), 1 / len(truth)), RESAMPLES)
    weights = np.concatenate([np.ones((1, len(truth)), dtype=weights.dtype), weights]).astype(np.float64)
    sums, count = np.zeros(len(weights)), np.zeros(len(weights))
    for value in np.unique(truth):
        has = truth == value
        if has.all():
            return None
        mine, others = scores[has, value][:, None], scores[~has, value][None]
        wins = (mine > others) + 0.5 * (mine == others)
        pairs = weights[:, has].sum(1) * weights[:, ~has].sum(1)
        drawn = pairs > 0
        area = ((weights[:, has] @ wins) * weights[:, ~has]).sum(1)
        sums[drawn] += area[drawn] / pairs[drawn]
        count += drawn
    areas = sums / np.maximum(count, 1)
    low, high = np.percentile(areas[1:], [50 * (1 - CONFIDENCE), 50 * (1 + CONFIDENCE)])
    return Summary(mean=float(areas[0]), low=float(low), high=float(high), percentiles={})


def reading_doubts(readings: Sequence[ReadingOutcome], among_inputs: Collection[str] = ()) -> list[str]:
    """Readings that say no more than a guess, and secrets that are none, because the inputs hold them."""
    held = dict.fromkeys(one.secret for one in readings if one.secret in among_inputs)
    return [
        f"{secret} is among the inputs: reading it says what the cut lets through, not what can be inferred"
        for secret in held
    ] + [
        f"{one.label} reads {one.secret} no better than always answering the most frequent value "
        f"({one.accuracy.mean:.0%} against {one.majority:.0%})"
        for one in readings
        if one.accuracy and one.accuracy.low <= one.majority
    ]
