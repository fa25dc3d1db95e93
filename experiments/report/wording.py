"""Numbers and findings in words."""

from __future__ import annotations

from collections.abc import Sequence

from attacks.knowledge import Capability
from experiments.record import AttackOutcome, Leakage, Record, Utility
from experiments.statistics import Summary

NOTHING = "\u2013"
"""What a table shows where there is no figure."""

CAPABILITIES: dict[str, str] = {
    Capability.HEAD: "the weights of the owner's head (white box)",
    Capability.ARCHITECTURE: "the layers of the head, without their weights",
    Capability.DEFENSE: "which defense runs, with its settings, but not its random draws",
    Capability.QUERIES: "inputs of its own through the owner's head",
    Capability.TAIL: "its own half of the network",
    Capability.AUXILIARY: "labelled images from the distribution that the victims come from",
    Capability.REPEATS: "which messages carry the same input, where an owner sends it more than once",
}
"""Each capability as a noun phrase that completes “the server has …”."""


def value(measure: str, figure: float) -> str:
    """One figure of a measure, rounded to what it is worth, without its unit."""
    if measure == "identification":
        return f"{100 * figure:.0f}"
    return f"{figure:.1f}" if measure in ("psnr_db", "dtw") else f"{figure:.2f}"


def interval(measure: str, summary: Summary) -> str:
    """The 95 % interval of a mean, as `[low, high]`."""
    return f"[{value(measure, summary.low)}, {value(measure, summary.high)}]"


def percent(fraction: float) -> str:
    """A fraction as a percentage with one decimal, on one line."""
    return f"{100 * fraction:.1f}\u00a0%"


def count(number: int) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{number:,}".replace(",", "\u2009")


def plural(number: int, thing: str) -> str:
    """`1 victim`, `64 victims`."""
    return f"{count(number)} {thing}" if number == 1 else f"{count(number)} {thing}s"


def size(bytes_: int) -> str:
    """A number of bytes in decimal units, three digits at most."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if bytes_ >= scale:
            return f"{bytes_ / scale:.3g} {unit}"
    return f"{bytes_} B"


def seconds(duration_s: float) -> str:
    """A duration in seconds or milliseconds."""
    return f"{1000 * duration_s:.0f} ms" if duration_s < 0.1 else f"{duration_s:.1f} s"


def worst_case(record: Record) -> AttackOutcome | None:
    """The attack that leaks most by mean SSIM; None where all were refused."""
    done = [attack for attack in record.attacks if attack.leakage]
    return max(done, key=_mean_ssim) if done else None


def accuracy_cost(utility: Utility) -> str:
    """What the defense and the wire did to accuracy, in points."""
    points = 100 * utility.drop
    if abs(points) < 0.05:
        return f"accuracy stays at {percent(utility.accuracy)}"
    change = f"accuracy goes from {percent(utility.accuracy)} to {percent(utility.accuracy_defended)}"
    return f"{change} ({-points:+.1f} points)".replace("-", "\u2212")


WORTH_HAVING = 0.05
"""Accuracy, as a fraction, beyond which a defense is no answer where there are others."""


def extremes(records: Sequence[Record]) -> tuple[tuple[Record, AttackOutcome], tuple[Record, AttackOutcome]] | None:
    """The trials whose worst case leaks most and least, each with that attack; None where no attack ran.

    A network that a defense has ruined leaks least of all, so what costs more than 5 points is left out of the least.
    """
    judged = [(record, worst) for record in records if (worst := worst_case(record))]
    if not judged:
        return None
    useful = [pair for pair in judged if pair[0].utility.drop <= WORTH_HAVING] or judged
    return max(judged, key=lambda pair: _mean_ssim(pair[1])), min(useful, key=lambda pair: _mean_ssim(pair[1]))


def verdict(records: Sequence[Record]) -> str:
    """The paragraph a reader takes away: where most leaks, where least, at which price."""
    found = extremes(records)
    if found is None:
        return "No attack could run: the threat model refused all of them, so nothing is known about leakage."
    most, least = found
    price = "" if most[0].defense == "none" else f"; {accuracy_cost(most[0].utility)}"
    sentences = [f"Most leaks at cut {most[0].cut} {_under(most[0])}: {_strongest(most[1])}{price}."]
    if least[0] is not most[0]:
        sentences.append(
            f"Least{_for_at_most(records)} leaks at cut {least[0].cut} {_under(least[0])}: {_strongest(least[1])}; "
            f"{accuracy_cost(least[0].utility)}."
        )
    if not any(_beats_floors(record) for record in records):
        sentences.append("Nowhere did an attack come closer than the nearest image that the attacker already had.")
    return " ".join(sentences)


def finding(record: Record) -> str:
    """One trial in a sentence or three: worst case over its attacks, against the floors, and its price."""
    worst = worst_case(record)
    if worst is None or worst.leakage is None:
        return f"no attack could run; {accuracy_cost(record.utility)}."
    done = sum(attack.leakage is not None for attack in record.attacks)
    ssim = worst.leakage.ssim
    within = (
        f" (95 % interval {value('ssim', ssim.low)} to {value('ssim', ssim.high)})" if len(record.victims) > 1 else ""
    )
    among = f"the strongest of {plural(done, 'attack')}" if done > 1 else "the one attack that ran"
    read = value("identification", worst.leakage.identification.mean)
    return (
        f"{worst.label}, {among}, reaches SSIM {value('ssim', ssim.mean)}{within} at "
        f"{value('psnr_db', worst.leakage.psnr_db.mean)} dB; the label can be read off {read} % of its pictures. "
        f"{_closeness(record, worst)} {accuracy_cost(record.utility).capitalize()}."
    )


def _for_at_most(records: Sequence[Record]) -> str:
    """What the least is the least of, where it was not chosen from all."""
    drops = [record.utility.drop for record in records if worst_case(record)]
    return (
        f", for at most {100 * WORTH_HAVING:.0f} points of accuracy," if max(drops) > WORTH_HAVING >= min(drops) else ""
    )


def _strongest(worst: AttackOutcome) -> str:
    assert worst.leakage is not None
    psnr = value("psnr_db", worst.leakage.psnr_db.mean)
    return f"{worst.label} rebuilds the private images at SSIM {value('ssim', _mean_ssim(worst))} and {psnr} dB"


def _under(record: Record) -> str:
    return "without a defense" if record.defense == "none" else f"under {record.defense}"


def _mean_ssim(attack: AttackOutcome) -> float:
    assert attack.leakage is not None
    return attack.leakage.ssim.mean


def _closeness(record: Record, worst: AttackOutcome) -> str:
    """How the worst case stands to the floors."""
    assert worst.leakage is not None
    mean, nearest = record.floors.get("mean_image"), record.floors.get("nearest_auxiliary")
    if nearest and _beats(worst.leakage, nearest):
        return "That is closer to the private images than the nearest image the attacker already had."
    if mean and not _beats(worst.leakage, mean):
        return "That is not measurably better than the mean image."
    if nearest:
        relation = "no closer than" if nearest.ssim.low <= worst.leakage.ssim.high else "further off than"
        return f"That is {relation} the nearest image the attacker already had, but better than the mean image."
    return ""


def _beats_floors(record: Record) -> bool:
    worst = worst_case(record)
    leakage = worst.leakage if worst else None
    return leakage is not None and all(_beats(leakage, floor) for floor in record.floors.values())


def _beats(leakage: Leakage, floor: Leakage) -> bool:
    """Whether the intervals of SSIM part, with the attack above."""
    return leakage.ssim.low > floor.ssim.high
