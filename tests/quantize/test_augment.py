"""Pictures are mirrored and shifted; a side of one pixel stays as it is."""

import pytest
import torch

from tapc.quantize.augment import augmented


@pytest.mark.parametrize("shape", [(5, 3, 1, 128), (5, 3, 128, 1), (5, 1, 2, 2), (5, 3, 16, 16)])
def test_copies_hold_the_values_of_their_picture(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    found = augmented(x, torch.Generator().manual_seed(1))
    assert found.shape == x.shape
    if min(shape[2:]) == 16:
        assert not torch.equal(found, x)
    for image, copy in zip(x, found, strict=True):
        assert set(copy.ravel().tolist()) <= set(image.ravel().tolist())
