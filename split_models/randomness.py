"""Randomness that is passed around, never global."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager

import torch


def seed_for(seed: int, *purpose: object) -> int:
    """A 63-bit seed for one purpose of a run, so that adding a purpose never shifts the draws of another."""
    text = "/".join(map(str, (seed, *purpose)))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def generator_for(seed: int, *purpose: object) -> torch.Generator:
    """A generator of its own for one purpose of a run."""
    return torch.Generator().manual_seed(seed_for(seed, *purpose))


@contextmanager
def layers_from(generator: torch.Generator) -> Iterator[None]:
    """Inside, layers initialise themselves from `generator`, although torch draws from its global one.

    The global generator's state is put back afterwards.
    """
    seed = int(torch.randint(0, 2**62, (1,), generator=generator).item())
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would reseed every accelerator as well
        yield
