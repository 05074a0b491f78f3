"""Text and image encoders."""

import torch

from gen3r.models.encoders import encode_image, encode_text
from tests.tiny import tiny_pipeline


def test_text_is_cut_and_padded_with_zeros() -> None:
    pipe = tiny_pipeline()
    short, long = encode_text(pipe.tokenizer, pipe.text_encoder, ["a", "word " * 100], 16, torch.device("cpu"))
    assert short.shape == long.shape == (16, 16)
    assert short[0].abs().max() > 0
    assert short[2:].abs().max() == 0
    assert (long.abs().amax(1) > 0).all()


def test_padding_does_not_change_the_words() -> None:
    pipe = tiny_pipeline()
    alone = encode_text(pipe.tokenizer, pipe.text_encoder, ["room"], 16, torch.device("cpu"))
    beside = encode_text(pipe.tokenizer, pipe.text_encoder, ["room", "a much longer text"], 16, torch.device("cpu"))
    torch.testing.assert_close(alone[0], beside[0])


def test_image_features_are_those_before_the_last_block() -> None:
    encoder = tiny_pipeline().image_encoder
    images = torch.rand(2, 3, 112, 80)
    features = encode_image(encoder, images)
    assert features.shape == (2, 1 + 16, 16)
    with torch.no_grad():
        for p in encoder.vision_model.encoder.layers[-1].parameters():
            p.add_(1.0)
    torch.testing.assert_close(encode_image(encoder, images), features)
    assert (encode_image(encoder, images.flip(-1)) - features).abs().max() > 1e-4
