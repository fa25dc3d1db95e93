"""What answers are worth, and doubts that an evaluation has about itself."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from experiments.hosting.record import PARTS, Figures, HostedAttack, HostedUtility
from parties.explanations import Explanation

BINS = 10  # of confidence, for the calibration error
TRUSTED = 0.9  # fraction of held-out pictures that a judge reads
MEAN_IMAGE = "mean image"


def utility_of(answers: Tensor, truth: Tensor) -> dict[str, float]:
    """Accuracy and expected calibration error (Guo et al. 2017) of labels (N,) or scores (N, classes); R² of values.

    Args:
        answers: as a customer gets them.
        truth: classes (N,) int64, or responses (N,) float32.
    """
    if truth.is_floating_point():
        rest = (truth - answers.reshape(-1)).double().square().sum()
        return {"r_squared": float(1 - rest / (truth - truth.mean()).double().square().sum())}
    if answers.ndim == 1:
        return {"accuracy": float((answers == truth).double().mean())}
    confidence, label = answers.max(1)
    right = (label == truth).double()
    bins = (confidence.clamp(0, 1) * BINS).long().clamp_max(BINS - 1)
    gaps = [float((right - confidence)[bins == b].sum().abs()) for b in range(BINS)]
    return {"accuracy": float(right.mean()), "calibration_error": sum(gaps) / len(truth)}


def distortion_of(own: Tensor, answers: Tensor) -> float:
    """How far answers are from the model's own on average.

    Args:
        own: scores (N, classes) or values (N, 1) of the model without a defense.
        answers: scores (N, classes), compared by total variation; labels (N,), by how many differ; or values (N,).
    """
    if answers.ndim == 2:
        return float((own - answers).double().abs().sum(1).mean() / 2)
    if not answers.is_floating_point():
        return float((own.argmax(1) != answers).double().mean())
    return float((own[:, 0] - answers).double().abs().mean())


def idle_defense(label: str, utility: HostedUtility) -> list[str]:
    """A doubt about a defense on outputs that changed nothing."""
    # The model's own answers may come from batches of another size, and differ in the last digits.
    if utility.distortion is not None and utility.distortion < 1e-6:
        return [f"{label}: answers are what they are without it; does it act on this form?"]
    return []


def bypassed_defense(label: str, explanation: Explanation) -> list[str]:
    """A doubt about a defense on outputs beside which the host explains."""
    if explanation is Explanation.NONE:
        return []
    return [f"{label}: {explanation.value} explanations are of the bare model, and no defense acts on those"]


def table_doubts(attacks: Sequence[HostedAttack], floors: dict[str, dict[str, Figures]]) -> list[str]:
    """Of attacks on a sensitive column."""
    found = []
    for attack in attacks:
        for part in PARTS:
            if part not in attack.inferred:
                continue
            reached, imputed = attack.inferred[part]["mcc"], floors["imputation"][part]["mcc"]
            if reached.mean <= 0:
                found.append(f"{attack.label} on {part}: no better than guessing the mode (MCC {reached.mean:.2f})")
            elif reached.high < imputed.low:
                found.append(f"{attack.label} on {part}: the other columns alone say more (imputation)")
    return found


def picture_doubts(
    attacks: Sequence[HostedAttack], floors: dict[str, dict[str, Figures]], evaluator_accuracy: float
) -> list[str]:
    """Of attacks on pictures, and of the classifier that judges them."""
    found = []
    if evaluator_accuracy < TRUSTED:
        found.append(f"the independent classifier reads {evaluator_accuracy:.0%} of held-out pictures: trust it less")
    for attack in attacks:
        for part, figures in attack.inferred.items():
            floor = floors[MEAN_IMAGE][part]
            if all(figures[name].mean <= floor[name].mean for name in ("identified", "ssim")):
                found.append(f"{attack.label} on {part}: no better than the mean of the attacker's own pictures")
    return found
