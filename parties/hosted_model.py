"""A whole model as a host holds it: a network, a tabular model, or a scikit-learn estimator."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from parties.estimators import load_estimator
from split_models.answers import Answers
from split_models.checkpoints import CheckpointError, load_model, load_tensors
from split_models.tabular.checkpoint import FORMAT as TABULAR_FORMAT
from split_models.tabular.checkpoint import load_tabular
from split_models.tabular.columns import check_rows, row_spec
from split_models.tensor_spec import TensorSpec


@dataclass(frozen=True)
class HostedModel:
    """What a host needs of a model, whatever made it."""

    name: str
    input_spec: TensorSpec
    classes: int  # 0 for a regression
    outputs: Callable[[Tensor], Tensor]  # inputs (N, *shape) → scores (N, classes) that sum to 1, or values (N, 1)
    check: Callable[[Tensor], object]  # raises SpecError for inputs that the model has no answer to
    network: nn.Module | None = None  # inputs → logits; what explanations are made from
    checkpoint: bytes = b""  # what a customer gets who is granted the model itself

    def forms(self) -> tuple[Answers, ...]:
        """In which forms it can answer."""
        return (Answers.LABEL, Answers.SCORES) if self.classes else (Answers.VALUE,)


def hosted_network(name: str, network: nn.Module, input_spec: TensorSpec, classes: int) -> HostedModel:
    """A network whose forward gives logits (N, classes), or with 0 classes values (N,)."""
    network.eval().requires_grad_(False)

    def outputs(inputs: Tensor) -> Tensor:
        with torch.no_grad():
            told = network(inputs)
            return torch.softmax(told, dim=1) if classes else told.reshape(-1, 1)

    return HostedModel(name, input_spec, classes, outputs, lambda inputs: input_spec.check(inputs, "inputs"), network)


def hosted_estimator(name: str, estimator: Any, features: int) -> HostedModel:
    """A fitted scikit-learn estimator: a classifier with `predict_proba`, or a regressor, of one output.

    Raises:
        CheckpointError: a classifier that tells labels alone, or an estimator of several outputs.
    """
    # Imported here because party processes that host networks start a second faster without it.
    from sklearn.base import is_classifier

    if is_classifier(estimator) and not hasattr(estimator, "predict_proba"):
        raise CheckpointError(f"{name}: expected a classifier with predict_proba; fit one that tells probabilities")
    classes = len(estimator.classes_) if is_classifier(estimator) else 0
    spec = TensorSpec((features,))

    def outputs(inputs: Tensor) -> Tensor:
        rows = inputs.double().numpy()
        told = estimator.predict_proba(rows) if classes else np.asarray(estimator.predict(rows)).reshape(-1, 1)
        return torch.from_numpy(np.ascontiguousarray(told, dtype=np.float32))

    try:
        fits = outputs(torch.zeros(1, features)).shape == (1, classes or 1)
    except ValueError:  # several outputs of different sizes are no array
        fits = False
    if not fits:
        raise CheckpointError(f"{name}: expected an estimator of one output, got several; host one for each")
    return HostedModel(name, spec, classes, outputs, lambda inputs: spec.check(inputs, "inputs"))


def load_hosted(path: Path) -> HostedModel:
    """A model from a checkpoint of a whole network, from a tabular one, or from a scikit-learn estimator (`.skops`).

    Raises:
        CheckpointError: the file is broken, holds a part, or an estimator with code in it.
    """
    if path.suffix == ".skops":
        estimator = load_estimator(path)
        return hosted_estimator(path.stem, estimator, int(estimator.n_features_in_))
    name, content = path.stem, _bytes_of(path)
    if load_tensors(path)[1].get("format") == TABULAR_FORMAT:
        model = load_tabular(path)
        columns = model.encoding.columns
        found = hosted_network(name, model, row_spec(columns), model.classes)
        return HostedModel(**{**found.__dict__, "checkpoint": content, "check": lambda rows: check_rows(columns, rows)})
    network, identity = load_model(path)
    if identity.part != "whole":
        raise CheckpointError(f"{path}: expected a whole network to host, got a {identity.part}; name a whole one")
    found = hosted_network(name, network, identity.input_spec, identity.classes)
    return HostedModel(**{**found.__dict__, "checkpoint": content})


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CheckpointError(f"{path}: {error.strerror}; give a file that unsmash wrote") from error
