"""Published tensors <-> ours for the transformer, the text encoder and the image encoder.

Each function takes and gives a whole dictionary of tensors; what it splits or transposes are views, not copies.
"""

import re

import torch
from torch import Tensor

Tensors = dict[str, Tensor]

_TRANSFORMER = (
    ("time_embedding.0.", "condition_embedder.time_embedder.linear_1."),
    ("time_embedding.2.", "condition_embedder.time_embedder.linear_2."),
    ("time_projection.1.", "condition_embedder.time_proj."),
    ("text_embedding.0.", "condition_embedder.text_embedder.linear_1."),
    ("text_embedding.2.", "condition_embedder.text_embedder.linear_2."),
    ("img_emb.proj.0.", "condition_embedder.image_embedder.norm1."),
    ("img_emb.proj.1.", "condition_embedder.image_embedder.ff.net.0.proj."),
    ("img_emb.proj.3.", "condition_embedder.image_embedder.ff.net.2."),
    ("img_emb.proj.4.", "condition_embedder.image_embedder.norm2."),
    ("head.modulation", "scale_shift_table"),
    ("head.head.", "proj_out."),
    ("control_adapter.residual_blocks.0.", "camera_branch.residual."),
    ("control_adapter.conv.", "camera_branch.conv."),
    (".self_attn.", ".attn1."),
    (".cross_attn.", ".attn2."),
    (".norm_k_img.", ".norm_added_k."),
    (".k_img.", ".add_k_proj."),
    (".v_img.", ".add_v_proj."),
    (".q.", ".to_q."),
    (".k.", ".to_k."),
    (".v.", ".to_v."),
    (".o.", ".to_out.0."),
    (".norm3.", ".norm2."),
    (".ffn.0.", ".ffn.net.0.proj."),
    (".ffn.2.", ".ffn.net.2."),
    (".modulation", ".scale_shift_table"),
)
_TEXT_BLOCK = (
    (".norm1.", ".layer.0.layer_norm."),
    (".pos_embedding.embedding.", ".layer.0.SelfAttention.relative_attention_bias."),
    (".attn.", ".layer.0.SelfAttention."),
    (".norm2.", ".layer.1.layer_norm."),
    (".ffn.gate.0.", ".layer.1.DenseReluDense.wi_0."),
    (".ffn.fc1.", ".layer.1.DenseReluDense.wi_1."),
    (".ffn.fc2.", ".layer.1.DenseReluDense.wo."),
)
_IMAGE = (
    ("cls_embedding", "embeddings.class_embedding"),
    ("pos_embedding", "embeddings.position_embedding.weight"),
    ("patch_embedding.", "embeddings.patch_embedding."),
    ("pre_norm.", "pre_layrnorm."),
    ("post_norm.", "post_layernorm."),
    ("transformer.", "encoder.layers."),
    (".norm1.", ".layer_norm1."),
    (".norm2.", ".layer_norm2."),
    (".mlp.0.", ".mlp.fc1."),
    (".mlp.2.", ".mlp.fc2."),
    (".attn.proj.", ".self_attn.out_proj."),
)


def _rename(key: str, pairs: tuple[tuple[str, str], ...], back: bool = False) -> str:
    """Every pair's part of `key` replaced, at most once each; a part without a leading dot must stand at the start."""
    for published, ours in pairs:
        old, new = (ours, published) if back else (published, ours)
        if old.startswith("."):
            key = key.replace(old, new, 1)
        elif key.startswith(old):
            return _rename(new + key.removeprefix(old), tuple(p for p in pairs if p[0].startswith(".")), back)
    return key


def transformer_from_published(tensors: Tensors) -> Tensors:
    """Gen3RTransformer's tensors of the published transformer's."""
    return {_rename(k, _TRANSFORMER): v for k, v in tensors.items()}


def transformer_to_published(tensors: Tensors) -> Tensors:
    """The inverse of `transformer_from_published`."""
    return {_rename(k, _TRANSFORMER, back=True): v for k, v in tensors.items()}


def text_from_published(tensors: Tensors) -> Tensors:
    """UMT5EncoderModel's tensors of the published (Wan's own) text encoder's."""
    out = {}
    for key, value in tensors.items():
        if key == "token_embedding.weight":
            out["shared.weight"] = out["encoder.embed_tokens.weight"] = value
        elif key == "norm.weight":
            out["encoder.final_layer_norm.weight"] = value
        else:
            out["encoder." + _rename(key, _TEXT_BLOCK).replace("blocks.", "block.", 1)] = value
    return out


def text_to_published(tensors: Tensors) -> Tensors:
    """The inverse of `text_from_published`."""
    out = {}
    for key, value in tensors.items():
        if key == "shared.weight":
            out["token_embedding.weight"] = value
        elif key == "encoder.final_layer_norm.weight":
            out["norm.weight"] = value
        elif key != "encoder.embed_tokens.weight":
            out[_rename(key.removeprefix("encoder.").replace("block.", "blocks.", 1), _TEXT_BLOCK, back=True)] = value
    return out


def image_from_published(tensors: Tensors) -> Tensors:
    """CLIPVisionModelWithProjection's tensors of the published vision tower's (without its `model.visual.` prefix)."""
    out = {}
    for key, value in tensors.items():
        if match := re.fullmatch(r"transformer\.(\d+)\.attn\.to_qkv\.(weight|bias)", key):
            for name, part in zip("qkv", value.chunk(3), strict=True):
                out[f"vision_model.encoder.layers.{match[1]}.self_attn.{name}_proj.{match[2]}"] = part
        elif key == "head":
            out["visual_projection.weight"] = value.mT
        else:
            squeezed = value.flatten() if key == "cls_embedding" else value[0] if key == "pos_embedding" else value
            out["vision_model." + _rename(key, _IMAGE)] = squeezed
    return out


def image_to_published(tensors: Tensors) -> Tensors:
    """The inverse of `image_from_published`; queries, keys and values are joined, which copies them."""
    out = {}
    for key, value in tensors.items():
        name = key.removeprefix("vision_model.")
        if match := re.fullmatch(r"encoder\.layers\.(\d+)\.self_attn\.q_proj\.(weight|bias)", name):
            parts = [tensors[key.replace("q_proj", f"{n}_proj")] for n in "qkv"]
            out[f"transformer.{match[1]}.attn.to_qkv.{match[2]}"] = torch.cat(parts)
        elif name == "visual_projection.weight":
            out["head"] = value.mT
        elif not re.search(r"\.self_attn\.[kv]_proj\.", name):
            published = _rename(name, _IMAGE, back=True)
            shaped = {"cls_embedding": (1, 1, -1), "pos_embedding": (1, *value.shape)}.get(published, value.shape)
            out[published] = value.reshape(shaped)
    return out
