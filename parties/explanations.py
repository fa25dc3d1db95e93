"""Explanations that a host may serve beside its predictions, by captum."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum

import torch
from torch import Tensor, nn

from parties.hosted_model import HostedModel
from split_models.tensor_spec import TensorSpec


class Explanation(StrEnum):
    """How a host explains a class; scenarios use these names."""

    NONE = "none"
    GRADIENT = "gradient"  # of the class's logit by the input
    GRAD_CAM = "grad_cam"  # Selvaraju et al. 2017, at the last convolution, scaled up to the picture


class ExplanationError(ValueError):
    """A model cannot be explained in the way that was asked for."""


def unexplained(name: str) -> ExplanationError:
    """What is raised for a model that is no network over pictures."""
    return ExplanationError(f"expected a network over images to explain, got {name}; set explanation to none")


def explainer(model: HostedModel, kind: Explanation) -> tuple[TensorSpec, Callable[[Tensor, Tensor], Tensor]]:
    """What an explanation looks like, and a callable (inputs, labels) → explanations (N, *shape) float32.

    Raises:
        ExplanationError: the model has no gradient, or no convolution for Grad-CAM; or captum is not installed.
    """
    try:
        from captum.attr import LayerAttribution, LayerGradCam, Saliency
    except ImportError as error:
        raise ExplanationError("explanations need the extra `pip install unsmash[host]`") from error
    network, shape = model.network, model.input_spec.shape
    if network is None or len(shape) != 3:
        raise unexplained(model.name)
    if kind is Explanation.GRADIENT:
        saliency = Saliency(network)

        def gradient(inputs: Tensor, labels: Tensor) -> Tensor:
            with torch.enable_grad():
                told: Tensor = saliency.attribute(inputs.clone().requires_grad_(), labels, abs=False)
            return told.detach()

        return TensorSpec(shape), gradient
    convolutions = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d)]
    if not convolutions:
        raise ExplanationError(f"expected a network with a convolution for Grad-CAM, got {model.name}; use gradient")
    cam = LayerGradCam(network, convolutions[-1])

    def grad_cam(inputs: Tensor, labels: Tensor) -> Tensor:
        with torch.enable_grad():
            told = cam.attribute(inputs.clone().requires_grad_(), labels, relu_attributions=True)
        scaled: Tensor = LayerAttribution.interpolate(told, shape[1:], interpolate_mode="bilinear")
        return scaled.detach()

    return TensorSpec((1, *shape[1:])), grad_cam
