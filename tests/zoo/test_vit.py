"""Vision transformers against torch's own attention."""

import torch
from torch.nn import functional

from tapc.zoo.vit import Attention, VisionTransformer, vit_micro


def test_attention_is_that_of_torch() -> None:
    torch.manual_seed(0)
    layer = Attention(24, 3)
    x = torch.randn(2, 7, 24)
    q, k, v = (part.reshape(2, 7, 3, 8).transpose(1, 2) for part in layer.qkv(x).chunk(3, -1))
    expected = layer.proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 7, 24))
    assert torch.allclose(layer(x), expected, atol=1e-6)


def test_sizes() -> None:
    with torch.device("meta"):
        base = VisionTransformer()
    assert sum(parameter.numel() for parameter in base.parameters()) == 86_567_656
    names = set(base.state_dict())
    assert {"cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.11.attn.qkv.bias", "head.weight"} <= names
    micro = vit_micro()
    assert sum(parameter.numel() for parameter in micro.parameters()) < 400_000
    assert micro(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
