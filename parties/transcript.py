"""What an honest-but-curious server remembers: each activation as it decoded it, after the owner's defense."""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from split_models.checkpoints import CheckpointError, load_tensors, save_tensors
from split_models.tensor_spec import TensorSpec

FORMAT = "unsmash-transcript-1"


@dataclass(frozen=True)
class Sighting:
    """One activation message (N, *shape): who sent it, and under which request id."""

    party: str
    request_id: int
    activations: Tensor


class Transcript:
    """All sightings of one compute server; safe to append to from several sessions at once."""

    def __init__(self, sightings: list[Sighting] | None = None) -> None:
        self._sightings = list(sightings or [])
        self._latest = {(seen.party, seen.request_id): seen.activations for seen in self._sightings}
        self._lock = threading.Lock()

    def append(self, party: str, request_id: int, activations: Tensor) -> None:
        """Remember one message; keeps a copy of its own.

        What an owner sent again, because its connection broke before the answer, is the same bytes under the same id
        and is remembered once.
        """
        with self._lock:
            earlier = self._latest.get((party, request_id))
            if earlier is None or not torch.equal(earlier, activations):
                kept = activations.detach().clone()
                self._latest[party, request_id] = kept
                self._sightings.append(Sighting(party, request_id, kept))

    @property
    def sightings(self) -> list[Sighting]:
        """By party and request id, so that the order does not depend on which owner was faster."""
        with self._lock:
            return sorted(self._sightings, key=lambda seen: (seen.party, seen.request_id))

    @property
    def activations(self) -> Tensor:
        """Every activation seen, one row a sample, in the order of `sightings`.

        Raises:
            ValueError: nothing was seen.
        """
        sightings = self.sightings
        if not sightings:
            raise ValueError("the transcript is empty: no owner has sent an activation yet")
        return torch.cat([seen.activations for seen in sightings])

    @property
    def rows(self) -> list[tuple[str, int, int]]:
        """For each row of `activations`: the party, its request id, and the row in that message."""
        return [(seen.party, seen.request_id, row) for seen in self.sightings for row in range(len(seen.activations))]

    def save(self, path: Path) -> None:
        """Write all sightings as one safetensors file, atomically."""
        sightings = self.sightings
        keys = json.dumps([(seen.party, seen.request_id) for seen in sightings])
        tensors = {str(number): seen.activations for number, seen in enumerate(sightings)}
        save_tensors(path, tensors, {"format": FORMAT, "sightings": keys})

    @classmethod
    def load(cls, path: Path) -> Transcript:
        """Read what `save` wrote.

        Raises:
            CheckpointError: no transcript, or a broken one.
        """
        tensors, metadata = load_tensors(path)
        if metadata.get("format") != FORMAT:
            raise CheckpointError(f"{path}: expected a {FORMAT} file; give one that `unsmash serve` wrote")
        try:
            keys = json.loads(metadata["sightings"])
            sightings = [Sighting(str(p), int(r), tensors[str(n)]) for n, (p, r) in enumerate(keys)]
            if len(sightings) != len(tensors) or len({_sample(seen) for seen in sightings}) > 1:
                raise ValueError("expected one activation for each, all of one shape and dtype")
            return cls(sightings)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(f"{path}: its list of sightings cannot be read ({error})") from error


def _sample(seen: Sighting) -> TensorSpec:
    if seen.activations.ndim == 0:
        raise ValueError("expected batches of activations, got a lone number")
    return TensorSpec.of(seen.activations)
