"""Text and image contexts for the transformer, from transformers' UMT5 and CLIP classes."""

import torch
import torch.nn.functional as F
from torch import Tensor
from transformers import CLIPVisionModelWithProjection, PreTrainedTokenizerBase, UMT5EncoderModel

CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)


def encode_text(
    tokenizer: PreTrainedTokenizerBase, encoder: UMT5EncoderModel, prompts: list[str], length: int, device: torch.device
) -> Tensor:
    """Text features [B, length, D]: those of each prompt's own tokens, the rest zeros.

    A prompt longer than `length` tokens is cut. The encoder sees no more tokens than the longest prompt has.
    """
    batch = tokenizer(
        prompts, padding=True, max_length=length, truncation=True, return_tensors="pt", return_attention_mask=True
    )
    features = encode_tokens(encoder, batch["input_ids"].to(device), batch["attention_mask"].to(device))
    return F.pad(features, (0, 0, 0, length - features.shape[1]))


def encode_tokens(encoder: UMT5EncoderModel, ids: Tensor, mask: Tensor) -> Tensor:
    """Text features [B, L, D] of token numbers [B, L]; zeros where mask [B, L] is 0."""
    features = encoder(input_ids=ids, attention_mask=mask).last_hidden_state
    return features * mask[..., None].to(features.dtype)


def encode_image(encoder: CLIPVisionModelWithProjection, images: Tensor) -> Tensor:
    """Image features [B, N, D] of images [B, 3, H, W] in [0, 1]: the output of the last block but one, not normed.

    The image is resized to the encoder's square (bicubic) and normalised with CLIP's statistics.
    """
    side = int(encoder.config.image_size)  # pyright: ignore[reportArgumentType]
    pixels = F.interpolate(images.float(), size=(side, side), mode="bicubic", align_corners=False, antialias=True)
    mean = torch.tensor(CLIP_MEAN, device=images.device).view(3, 1, 1)
    std = torch.tensor(CLIP_STD, device=images.device).view(3, 1, 1)
    return encode_pixels(encoder, ((pixels - mean) / std).to(encoder.dtype))


def encode_pixels(encoder: CLIPVisionModelWithProjection, pixels: Tensor) -> Tensor:
    """Image features [B, N, D] of normalised pixels [B, 3, S, S]."""
    return encoder(pixel_values=pixels, output_hidden_states=True).hidden_states[-2]
