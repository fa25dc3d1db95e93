"""What NoPeek costs in training: `python -m benchmarks.nopeek`.

Times whole training steps (forward, backward, Adam) without and with it, in turns within one run, prints the ratio for
each network and form (the median over rounds), and writes a record. The aim is at most 1.15 at batch 128. Ratios
compare across machines, seconds do not.
"""

from __future__ import annotations

from parties.tuning import tune_process

tune_process(processes=1)  # as processes that train are; takes effect only before torch is loaded by the imports below

# ruff: noqa: E402
import argparse
import json
import time
from collections.abc import Callable
from operator import truediv
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from defenses import make_defense
from experiments.provenance import provenance
from split_models.checkpoints import write_atomically
from split_models.randomness import generator_for, layers_from
from split_models.split_model import split
from split_models.tensor_spec import TensorSpec
from split_models.zoo import build

RECORD = Path("experiments/reproductions/nopeek/nopeek.json")
AIM = 1.15
SETTINGS = (("lenet", (1, 28, 28), "relu2"), ("sixconv", (3, 32, 32), "relu22"))
FORMS = ("none", "biased", "unbiased")


def training_step(model: str, shape: tuple[int, ...], cut: str, batch: int, form: str) -> Callable[[], None]:
    """One step of training a network on a random batch, with NoPeek in a form at the cut."""
    generator = generator_for(0, "benchmark")
    with layers_from(generator):
        network = build(model, TensorSpec(shape, low=0.0, high=1.0), 10)
    parts = split(network, cut)
    images, labels = torch.rand(batch, *shape, generator=generator), torch.arange(batch) % 10
    optimizer = torch.optim.Adam(network.parameters())
    defense = make_defense("nopeek", {"weight": 0.0 if form == "none" else 1.0, **_form(form)})

    def step() -> None:
        optimizer.zero_grad(set_to_none=True)
        _loss(parts.head, parts.tail, images, labels, form, defense.training_loss).backward()
        optimizer.step()

    return step


def _form(form: str) -> dict[str, str]:
    return {} if form == "none" else {"form": form}


def _loss(
    head: nn.Module, tail: nn.Module, images: Tensor, labels: Tensor, form: str, added: Callable[..., Tensor]
) -> Tensor:
    activations = head(images)
    task = cross_entropy(tail(activations), labels)
    return task if form == "none" else task + added(images, activations, labels, torch.Generator())


def measure(steps: dict[str, Callable[[], None]], rounds: int, seconds: float) -> dict[str, list[float]]:
    """Seconds of each step, round by round; a round takes each once, so that drift reaches all alike.

    There are at least so many rounds, and more until so many seconds have passed: short steps vary more.
    """
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():  # warms caches and the allocator up
        step()
    begun = time.perf_counter()
    while len(taken["none"]) < rounds or time.perf_counter() - begun < seconds:
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            taken[name].append(time.perf_counter() - start)
    return taken


def main() -> None:
    """Measure, print one line a network, and write the record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=9, help="at least so many")
    parser.add_argument("--seconds", type=float, default=20.0, help="for a network, at least so long")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--record", type=Path, default=RECORD, help="where the record goes")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    results = []
    for model, shape, cut in SETTINGS:
        steps = {form: training_step(model, shape, cut, options.batch, form) for form in FORMS}
        taken = measure(steps, options.rounds, options.seconds)
        # Within a round, because a machine's pace drifts over more than a few steps.
        ratios = {form: median(map(truediv, taken[form], taken["none"])) for form in FORMS[1:]}
        results.append({"network": model, "cut": cut, "ratios": ratios})
        print(
            f"{model} at {cut}, batch {options.batch}: {1000 * median(taken['none']):.1f} ms a step without, "
            f"{', '.join(f'{form} x{ratio:.2f}' for form, ratio in ratios.items())} with NoPeek; "
            f"{'within' if ratios['biased'] <= AIM else 'beyond'} the aim of x{AIM}"
        )
    settings = {name: value for name, value in vars(options).items() if name != "record"}
    record = {"command": "python -m benchmarks.nopeek", **settings, "results": results, "provenance": provenance()}
    write_atomically(options.record, (json.dumps(record, indent=1) + "\n").encode())
    print(f"record: {options.record}")


if __name__ == "__main__":
    main()
