"""A survey and a census that nobody answered, in the form of the real files."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

QUESTIONS = (
    "RespondentID",
    "Consider the following hypothetical situations: A or B?",
    "Do you ever smoke cigarettes?",
    "Do you ever drink alcohol?",
    "Do you ever gamble?",
    "Have you ever been skydiving?",
    "Do you ever drive above the speed limit?",
    "Have you ever cheated on your significant other?",
    "Do you eat steak?",
    "How do you like your steak prepared?",
    "Gender",
    "Age",
    "Household Income",
    "Education",
    "Location (Census Region)",
)
DONENESS = ("Rare", "Medium rare", "Medium", "Medium Well", "Well")


def write_survey(folder: Path, people: int = 120) -> Path:
    """Write `steak/steak-risk-survey.csv` below `folder`, which it returns; doneness follows cheating and gender."""
    rng = np.random.default_rng(0)
    path = folder / "steak" / "steak-risk-survey.csv"
    path.parent.mkdir(parents=True)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(QUESTIONS)
        writer.writerow(["", *["Response"] * (len(QUESTIONS) - 1)])
        for person in range(people):
            cheated, gender = int(rng.random() < 0.4), int(rng.integers(2))
            habits = ["Yes" if rng.random() < 0.5 else "No" for _ in range(5)]
            doneness = DONENESS[2 * cheated + gender if rng.random() < 0.9 else int(rng.integers(5))]
            yes = ("No", "Yes")[cheated]
            about = [f"{rng.integers(18, 22)}", "$25,000", f"school {rng.integers(3)}", "Pacific"]
            writer.writerow(
                [person, f"Lottery {'AB'[rng.integers(2)]}", *habits, yes, "Yes", doneness, f"G{gender}", *about]
            )
        writer.writerow([people, "Lottery A", *[""] * (len(QUESTIONS) - 2)])  # left out: it has gaps
    return folder


def write_census(folder: Path, people: int = 400) -> Path:
    """Write `adult/adult.data` and `adult.test` below `folder`, which it returns.

    Sex follows the occupation and income the education; race and marital status follow nothing.
    """
    rng = np.random.default_rng(0)
    lines = []
    for _ in range(people):
        sex, years = int(rng.integers(2)), int(rng.integers(1, 17))
        job = ("Sales", "Craft-repair")[sex if rng.random() < 0.95 else 1 - sex]
        married = ("Never-married", "Married-civ-spouse")[rng.integers(2)]
        about = [f"{rng.integers(17, 91)}", "Private", "1", "school", f"{years}", married, job, "Husband"]
        about += [("White", "Black")[rng.integers(2)], ("Female", "Male")[sex], f"{100 * rng.integers(9)}", "0"]
        lines.append(", ".join([*about, f"{rng.integers(10, 61)}", "Peru", "<=50K" if years < 9 else ">50K"]))
    path = folder / "adult"
    path.mkdir(parents=True)
    (path / "adult.data").write_text("\n".join(lines[: people // 2]) + "\n")
    (path / "adult.test").write_text("|1x3\n" + ".\n".join(lines[people // 2 :]) + ".\n")
    return folder
