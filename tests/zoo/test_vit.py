"""Vision transformers against torch's own attention."""

import torch
from torch.nn import functional

from tapc.zoo.swin import SwinTransformer, WindowAttention
from tapc.zoo.vit import Attention, VisionTransformer, vit_micro
from tapc.zoo.vit_b import VisionTransformer as VitB


def test_attention_is_that_of_torch() -> None:
    torch.manual_seed(0)
    layer = Attention(24, 3)
    x = torch.randn(2, 7, 24)
    q, k, v = (part.reshape(2, 7, 3, 8).transpose(1, 2) for part in layer.qkv(x).chunk(3, -1))
    expected = layer.proj(functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(2, 7, 24))
    assert torch.allclose(layer(x), expected, atol=1e-6)


def test_torchvision_names() -> None:
    with torch.device("meta"):
        vit, swin = VitB(), SwinTransformer()
    assert sum(parameter.numel() for parameter in vit.parameters()) == 86_567_656
    assert sum(parameter.numel() for parameter in swin.parameters()) == 87_768_224
    names = set(vit.state_dict())
    assert {"class_token", "conv_proj.bias", "encoder.pos_embedding", "heads.head.weight", "encoder.ln.bias"} <= names
    block = "encoder.layers.encoder_layer_11"
    assert {f"{block}.self_attention.in_proj_weight", f"{block}.mlp.3.weight", f"{block}.ln_2.bias"} <= names
    names = set(swin.state_dict())
    assert {"features.0.0.weight", "features.0.2.bias", "features.2.reduction.weight", "features.6.norm.bias"} <= names
    block = "features.5.17"
    assert {f"{block}.attn.relative_position_bias_table", f"{block}.attn.qkv.bias", f"{block}.mlp.3.bias"} <= names


def test_windows_do_not_see_each_other() -> None:
    torch.manual_seed(0)
    for shift in (0, 2):
        layer = WindowAttention(8, 2, 4, shift)
        x = torch.randn(1, 8, 8, 8, requires_grad=True)
        layer(x)[0, 1, 1].sum().backward()
        assert x.grad is not None
        seen = x.grad.abs().sum((0, 3)) > 1e-12
        expected = torch.zeros(8, 8, dtype=torch.bool)
        if shift:  # what the shift moved beside the first pixels is masked
            expected[:2, :2] = True
        else:
            expected[:4, :4] = True
        assert torch.equal(seen, expected)


def test_a_small_swin_runs_on_odd_sizes() -> None:
    torch.manual_seed(0)
    network = SwinTransformer(5, 8, (2, 2), (2, 2), 4)
    assert network(torch.randn(2, 3, 36, 36)).shape == (2, 5)


def test_sizes() -> None:
    with torch.device("meta"):
        base = VisionTransformer()
    assert sum(parameter.numel() for parameter in base.parameters()) == 86_567_656
    names = set(base.state_dict())
    assert {"cls_token", "pos_embed", "patch_embed.proj.weight", "blocks.11.attn.qkv.bias", "head.weight"} <= names
    micro = vit_micro()
    assert sum(parameter.numel() for parameter in micro.parameters()) < 400_000
    assert micro(torch.zeros(2, 3, 32, 32)).shape == (2, 10)
