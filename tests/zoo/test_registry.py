import hashlib
import tomllib
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

import tapc.zoo.registry as registry
from tapc import zoo
from tapc.errors import DataError, UsageError


@pytest.mark.parametrize("entry", zoo.models(), ids=lambda entry: entry.name)
def test_entry_describes_its_network(entry: zoo.ZooEntry) -> None:
    module = entry.build().eval()
    with torch.no_grad():
        output = module(torch.zeros(entry.input_shape))
    assert output.shape == (1, entry.classes)
    assert len(entry.labels) == entry.classes
    assert entry.weights_path.parent.name == "weights"


@pytest.mark.parametrize("entry", zoo.models(), ids=lambda entry: entry.name)
def test_trained_weights(entry: zoo.ZooEntry) -> None:
    if not entry.weights_path.is_file():
        pytest.skip(f"{entry.weights} is not trained yet")
    module = entry.module()
    assert not module.training
    assert sum(parameter.numel() for parameter in module.parameters()) == entry.parameters
    assert entry.weights_path.stat().st_size < 500_000


def test_cifar_labels_are_alphabetical() -> None:
    labels = zoo.get("resnet8").labels
    assert labels == tuple(sorted(labels))
    assert labels[0] == "airplane"
    assert labels[9] == "truck"


def test_unknown_name() -> None:
    with pytest.raises(UsageError, match=r"no zoo model 'resnet9'; there is: resnet8"):
        zoo.get("resnet9")


def test_entries_are_frozen_and_complete() -> None:
    entry = zoo.get("resnet8")
    with pytest.raises(ValidationError):
        entry.name = "other"  # type: ignore[misc]
    fields = tomllib.loads((Path(registry.__file__).parent / "models.toml").read_text())["resnet8"]
    with pytest.raises(ValidationError, match="labels"):
        zoo.ZooEntry(name="x", **{key: value for key, value in fields.items() if key != "labels"})


def test_weights_are_verified(tmp_path: Path) -> None:
    entry = zoo.get("resnet8")
    path = tmp_path / "resnet8.safetensors"
    missing = entry.model_copy(update={"weights": str(path)})
    with pytest.raises(
        DataError, match=r"are missing; reinstall tapc, or run: python examples/train_cifar10.py resnet8"
    ):
        missing.module()
    torch.manual_seed(0)
    state = {key: value for key, value in entry.build().state_dict().items() if value.is_floating_point()}
    save_file(state, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    loaded = missing.model_copy(update={"sha256": digest}).module()
    assert torch.equal(loaded.state_dict()["fc.weight"], state["fc.weight"])
    blob = bytearray(path.read_bytes())
    blob[-1] ^= 1
    path.write_bytes(blob)
    with pytest.raises(DataError, match=rf"sha256 [0-9a-f]+ is not the registered {digest}"):
        missing.model_copy(update={"sha256": digest}).module()
