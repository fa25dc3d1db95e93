"""Networks on disk: they come back whole, or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from split_models.checkpoints import (
    CheckpointError,
    Identity,
    digest,
    load_model,
    load_tensors,
    save_model,
    save_tensors,
    write_atomically,
)
from split_models.split_model import cut_names, split
from split_models.tensor_spec import TensorSpec
from split_models.zoo import build

SPEC = TensorSpec((1, 16, 16), low=0.0, high=1.0)


@pytest.fixture
def model() -> nn.Sequential:
    return build("lenet", SPEC, 4).eval()


@pytest.fixture
def saved(model: nn.Sequential, tmp_path: Path) -> Path:
    path = tmp_path / "target.safetensors"
    save_model(path, model, Identity("lenet", SPEC, 4, digest=""))
    return path


def rewrite(path: Path, identity: dict[str, Any] | str | None = None, **tensors: torch.Tensor | None) -> None:
    """Change fields of a checkpoint's identity, or its tensors, and nothing else."""
    content, metadata = load_tensors(path)
    for name, tensor in tensors.items():
        if tensor is None:
            del content[name]
        else:
            content[name] = tensor
    if isinstance(identity, str):
        metadata["identity"] = identity
    elif identity is not None:
        metadata["identity"] = json.dumps({**json.loads(metadata["identity"]), **identity})
    save_tensors(path, content, metadata)


def test_a_network_comes_back_bit_for_bit(model: nn.Sequential, saved: Path) -> None:
    loaded, identity = load_model(saved)
    assert identity == Identity("lenet", SPEC, 4, digest(model.state_dict()))
    assert not loaded.training
    assert all(torch.equal(tensor, loaded.state_dict()[name]) for name, tensor in model.state_dict().items())


@pytest.mark.parametrize("part", ["head", "tail"])
def test_a_part_holds_its_own_weights_alone(model: nn.Sequential, tmp_path: Path, part: str) -> None:
    for cut in cut_names(model):
        path = tmp_path / f"{cut}.{part}.safetensors"
        save_model(path, model, Identity("lenet", SPEC, 4, "", cut, part))
        loaded, identity = load_model(path)
        assert identity.digest == digest(model.state_dict()), "both parts name the whole network they come from"
        ours, theirs = split(model, cut), split(loaded, cut)
        for old, new in zip(ours.parts, theirs.parts, strict=True):
            for name, tensor in old.state_dict().items():
                is_the_part = old is (ours.head if part == "head" else ours.tail)
                assert torch.equal(tensor, new.state_dict()[name]) == is_the_part, (cut, name)
        held, _ = load_tensors(path)
        assert len(held) == len((ours.head if part == "head" else ours.tail).state_dict())


def test_a_part_needs_a_cut_that_exists(model: nn.Sequential, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="expected a cut"):
        save_model(tmp_path / "x", model, Identity("lenet", SPEC, 4, "", None, "head"))
    with pytest.raises(CheckpointError, match=r"no layer 'conv9'.*conv1"):
        save_model(tmp_path / "x", model, Identity("lenet", SPEC, 4, "", "conv9", "head"))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("part", ["whole", "head", "tail"])
def test_changed_weights_are_noticed(model: nn.Sequential, tmp_path: Path, part: str) -> None:
    path = tmp_path / "part.safetensors"
    save_model(path, model, Identity("lenet", SPEC, 4, "", "conv2", part))
    name = "fc3.bias" if part == "tail" else "conv1.bias"
    tensor = load_tensors(path)[0][name]
    tensor[0] += 1e-6
    rewrite(path, **{name: tensor})
    with pytest.raises(CheckpointError, match="do not match the recorded digest"):
        load_model(path)


def test_the_digest_depends_on_names_shapes_dtypes_and_values() -> None:
    states = [
        {"a": torch.zeros(4)},
        {"b": torch.zeros(4)},
        {"a": torch.zeros(2, 2)},
        {"a": torch.zeros(4, dtype=torch.float64)},
        {"a": torch.zeros(4, dtype=torch.int32)},
        {"a": torch.tensor([0, 0, 0, 1.0])},
        {"a": torch.zeros(4), "b": torch.zeros(0)},
    ]
    assert len({digest(state) for state in states}) == len(states)
    both = {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(1)}
    again = {"b": torch.ones(1), "a": torch.arange(6.0).view(3, 2).t().reshape(3, 2).t().contiguous()}
    again["a"] = both["a"].t().contiguous().t()  # other memory layout, same values
    assert digest(both) == digest(again)


def test_any_byte_cut_off_is_an_error(saved: Path) -> None:
    content = saved.read_bytes()
    for size in (0, 1, 7, 8, 20, len(content) // 2, len(content) - 1):
        saved.write_bytes(content[:size])
        with pytest.raises(CheckpointError, match="cannot read"):
            load_model(saved)


def test_other_files_are_refused(saved: Path, tmp_path: Path) -> None:
    (tmp_path / "text.safetensors").write_text("weights are elsewhere")
    torch.save({"a": torch.zeros(1)}, tmp_path / "pickle.pt")
    for name in ("missing.safetensors", "text.safetensors", "pickle.pt", "."):
        with pytest.raises(CheckpointError, match="cannot read"):
            load_model(tmp_path / name)
    save_tensors(tmp_path / "other.safetensors", {"a": torch.zeros(1)}, {"format": "pt"})
    with pytest.raises(CheckpointError, match="got 'pt'"):
        load_model(tmp_path / "other.safetensors")
    save_tensors(tmp_path / "plain.safetensors", {"a": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="got 'another one'"):
        load_model(tmp_path / "plain.safetensors")


@pytest.mark.parametrize(
    "change",
    [
        *({"part": "middle"}, {"model": "resnet"}, {"classes": 1}, {"classes": "four"}, {"surplus": 1}),
        *({"input_spec": {"shape": [1, 4, 4]}}, {"input_spec": {"shape": "abc"}}, {"input_spec": None}),
        *({"model": ["lenet"]}, {"part": "head"}, {"part": "head", "cut": "conv9"}, {"part": "tail", "cut": 3}),
        *("", "[]", "null", "{}", '"lenet"', "{", "3"),
    ],
    ids=str,
)
def test_a_broken_identity_is_an_error(saved: Path, change: dict[str, Any] | str) -> None:
    rewrite(saved, change)
    with pytest.raises(CheckpointError):
        load_model(saved)


def test_tensors_that_do_not_fit_are_named(saved: Path) -> None:
    rewrite(saved, {"classes": 5})
    with pytest.raises(CheckpointError, match=r"fc3\.weight"):
        load_model(saved)


def test_a_missing_or_surplus_tensor_is_named(saved: Path) -> None:
    content = saved.read_bytes()
    rewrite(saved, **{"conv1.bias": None})
    with pytest.raises(CheckpointError, match=r"conv1\.bias"):
        load_model(saved)
    saved.write_bytes(content)
    rewrite(saved, surplus=torch.zeros(1))
    with pytest.raises(CheckpointError, match="surplus"):
        load_model(saved)


@pytest.mark.parametrize("step", ["fsync", "replace"])
def test_a_write_that_fails_leaves_the_old_file_and_no_half(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    path = tmp_path / "deep" / "file"
    write_atomically(path, b"old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(*(os, "fsync") if step == "fsync" else (Path, "replace"), full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, b"new and longer")
    assert path.read_bytes() == b"old"
    assert [file.name for file in path.parent.iterdir()] == ["file"]


def test_a_write_replaces_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content in (b"a longer first content", b"second"):
        write_atomically(path, content)
    assert path.read_bytes() == b"second"
    assert len(list(tmp_path.iterdir())) == 1


def test_tensors_of_any_layout_come_back(tmp_path: Path) -> None:
    base = torch.arange(24.0).view(2, 3, 4)
    tensors = {"turned": base.permute(2, 0, 1), "view": base[:, 1], "same": base, "grad": base.clone().requires_grad_()}
    save_tensors(tmp_path / "t", tensors, {"note": "μ"})
    loaded, metadata = load_tensors(tmp_path / "t")
    assert all(torch.equal(loaded[name], tensor) for name, tensor in tensors.items())
    assert loaded.keys() == tensors.keys()
    assert metadata == {"note": "μ"}
