"""The zoo's table: every network builds, has the parameters it claims, and its weights are checked."""

import hashlib
from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import save_file

from tapc import zoo
from tapc.base.errors import DataError, UsageError
from tapc.zoo.storage import pack

VARIANTS = [
    pytest.param(entry, variant, id=f"{entry.name}-{'official' if variant is entry.official else 'bundled'}")
    for entry in zoo.models()
    for variant in entry.variants()
]


@pytest.mark.parametrize(("entry", "variant"), VARIANTS)
def test_entry_describes_its_network(entry: zoo.ZooEntry, variant: zoo.Variant) -> None:
    module = entry.build(variant).eval()
    with torch.no_grad():
        output = module(torch.zeros(variant.input_shape))
    scores = output["scores"] if isinstance(output, dict) else output
    assert scores.shape[:2] == (1, variant.classes)
    assert (scores.dim() == 2) == (variant.metric == "top1")
    assert sum(parameter.numel() for parameter in module.parameters()) == variant.parameters
    assert len(variant.labels) in (0, variant.classes)
    assert len(variant.mean) == len(variant.std) in (1, variant.input_shape[1])
    if variant is entry.official:
        # torchvision and timm put the first digits of the file's sha256 into its name.
        assert variant.sha256[:8] in variant.weights
        assert not variant.url or variant.url.endswith(f"/{variant.weights}")
    else:
        assert variant.training.startswith("python examples/")


@pytest.mark.parametrize("entry", [e for e in zoo.models() if e.bundled is not None], ids=lambda entry: entry.name)
def test_bundled_weights(entry: zoo.ZooEntry) -> None:
    assert entry.bundled is not None
    module = entry.module()
    assert not module.training
    assert entry.bundled.weights_path.stat().st_size <= 12 << 20


def test_cifar_labels_are_alphabetical() -> None:
    labels = zoo.get("resnet8").default.labels
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
    assert entry.bundled is not None
    with pytest.raises(ValidationError, match="classes"):
        zoo.Variant(**{key: value for key, value in entry.bundled.model_dump().items() if key != "classes"})
    with pytest.raises(ValidationError, match="bundled or official"):
        zoo.ZooEntry(name="x", description="", builder="a:b")


def altered(path: Path, **changes: object) -> zoo.ZooEntry:
    entry = zoo.get("resnet8")
    assert entry.bundled is not None
    return entry.model_copy(update={"bundled": entry.bundled.model_copy(update={"weights": str(path), **changes})})


def test_weights_are_verified(tmp_path: Path) -> None:
    path = tmp_path / "resnet8.safetensors"
    with pytest.raises(
        DataError, match=r"are missing; reinstall tapc, or run: python examples/train_cifar10.py resnet8"
    ):
        altered(path).module()
    torch.manual_seed(0)
    network = zoo.get("resnet8").build()
    state = {key: value for key, value in network.state_dict().items() if value.is_floating_point()}
    save_file(state, path)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    loaded = altered(path, sha256=digest).module()
    assert torch.equal(loaded.state_dict()["fc.weight"], state["fc.weight"])
    blob = bytearray(path.read_bytes())
    blob[-1] ^= 1
    path.write_bytes(blob)
    with pytest.raises(DataError, match=rf"sha256 [0-9a-f]+ is not the registered {digest}"):
        altered(path, sha256=digest).module()


def test_a_file_says_which_variant_it_is_for(tmp_path: Path) -> None:
    small = {"classes": 10, "small": True}
    entry = zoo.get("resnet18")
    official = entry.official
    assert official is not None
    both = entry.model_copy(
        update={"bundled": official.model_copy(update={"arguments": small, "classes": 10, "url": "", "data": "CIFAR"})}
    )
    torch.manual_seed(0)
    for variant in both.variants():
        network = both.build(variant)
        path = tmp_path / "weights.pth"
        torch.save(network.state_dict(), path)
        found, loaded = both.fitting(path)
        assert found.arguments == variant.arguments
        assert torch.equal(loaded.state_dict()["fc.weight"], network.state_dict()["fc.weight"])
    packed = tmp_path / "packed.safetensors"
    state = {name: value for name, value in network.state_dict().items() if value.is_floating_point()}
    save_file(pack(state), packed)
    assert both.fitting(packed)[0].classes == 1000
    torch.save({**network.state_dict(), "fc.weight": torch.zeros(7, 512), "extra": torch.zeros(1)}, path)
    with pytest.raises(DataError) as error:
        both.fitting(path)
    text = str(error.value)
    assert "10 classes" in text
    assert "conv1.weight is 64x3x7x7, not 64x3x3x3" in text
    assert "fc.weight is 7x512, not 1000x512" in text
    assert "extra is unknown" in text


@pytest.mark.parametrize("content", [b"", b"not a file of torch", b"PK\x03\x04 broken"])
def test_broken_files(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read"):
        zoo.get("resnet8").fitting(path)
    with pytest.raises(DataError, match="no such weights file"):
        zoo.get("resnet8").fitting(tmp_path / "absent.pth")
