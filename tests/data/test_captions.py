"""Captions by a model: written once, kept beside the dataset, read with its scenes."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers, processors

from gen3r.cli.main import main
from gen3r.data import captions
from gen3r.data.captioner import QUESTION, TransformersCaptioner
from gen3r.data.captions import FOLDER, read_captions, write_captions
from gen3r.data.clips import ClipSampler
from gen3r.data.readers import open_dataset
from gen3r.data.readers.base import Reader
from gen3r.data.sampled_clips import SampledClips
from gen3r.data.standard import convert
from gen3r.errors import InputError
from tests.data.layouts import Truths, write_standard

SIZE = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "<image>", "a", "room", "plaza", "with", "red", "what", "is", "it"]


def tokenizer():
    from transformers import PreTrainedTokenizerFast

    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.add_special_tokens(["<image>"])
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    )


def save_blip(folder: Path) -> None:
    """A captioning model that goes on from a prompt."""
    from transformers import BlipConfig, BlipForConditionalGeneration, BlipImageProcessor, BlipProcessor

    marks = {"bos_token_id": 2, "eos_token_id": 3, "sep_token_id": 3, "pad_token_id": 0}
    text = {**SIZE, **marks, "vocab_size": len(WORDS), "encoder_hidden_size": 16}
    config = BlipConfig(text_config=text, vision_config={**SIZE, "image_size": 32, "patch_size": 16}, projection_dim=16)
    torch.manual_seed(0)
    model = BlipForConditionalGeneration(config)
    model.generation_config.min_new_tokens = 5  # with random weights it may have nothing to say
    model.save_pretrained(folder)
    BlipProcessor(BlipImageProcessor(size={"height": 32, "width": 32}), tokenizer()).save_pretrained(folder)


def save_llava(folder: Path) -> None:
    """A model that chats."""
    from transformers import (
        CLIPImageProcessor,
        CLIPVisionConfig,
        LlamaConfig,
        LlavaConfig,
        LlavaForConditionalGeneration,
        LlavaProcessor,
    )

    vision = CLIPVisionConfig(**{**SIZE, "num_hidden_layers": 2}, image_size=32, patch_size=16)
    marks = {"bos_token_id": 2, "eos_token_id": 3, "pad_token_id": 0}
    text = LlamaConfig(**SIZE, **marks, vocab_size=len(WORDS), num_key_value_heads=2)
    torch.manual_seed(0)
    model = LlavaForConditionalGeneration(LlavaConfig(vision_config=vision, text_config=text, image_token_index=4))
    model.generation_config.min_new_tokens = 5
    model.save_pretrained(folder)
    template = (
        "{% for m in messages %}{% for c in m['content'] %}"
        "{% if c['type'] == 'image' %}<image> {% else %}{{ c['text'] }}{% endif %}{% endfor %}{% endfor %}"
    )
    LlavaProcessor(
        CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}), tokenizer(),
        patch_size=16, vision_feature_select_strategy="default", chat_template=template,
        num_additional_image_tokens=1,
    ).save_pretrained(folder)  # fmt: skip


@pytest.fixture(scope="module")
def blip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-blip"
    save_blip(folder)
    return folder


@pytest.fixture
def source(truths: Truths, tmp_path: Path) -> Reader:
    """Three scenes, with two captions each of their own."""
    for name in ("a", "b", "c"):
        write_standard(tmp_path / "source" / name, truths("standard"))
    return open_dataset("standard", tmp_path / "source")


def again(reader: Reader) -> Reader:
    return open_dataset(reader.name, reader.root)


def numbered() -> tuple[Callable[[Image.Image], str], list[int]]:
    """A captioner that counts, and the widths of what it saw."""
    seen: list[int] = []

    def caption(picture: Image.Image) -> str:
        seen.append(picture.width)
        return f" picture\n{len(seen)} "

    return caption, seen


def test_a_model_that_goes_on_from_a_prompt(blip: Path) -> None:
    picture = Image.new("RGB", (60, 40), "red")
    captioner = TransformersCaptioner(str(blip))
    assert (captioner.chats, captioner.prompt) == (False, "")
    words = captioner(picture).split()
    assert words
    assert set(words) <= set(WORDS)
    assert captioner(picture) == captioner(picture)
    assert TransformersCaptioner(str(blip), "what is it")(picture).startswith("what is it ")


def test_a_model_that_chats(tmp_path: Path) -> None:
    save_llava(tmp_path)
    captioner = TransformersCaptioner(str(tmp_path))
    assert (captioner.chats, captioner.prompt) == (True, QUESTION)
    answer = captioner(Image.new("RGB", (60, 40)))
    assert answer.strip()
    assert set(answer.split()) <= set(WORDS)  # and so no part of the question


@pytest.mark.parametrize("model", ["{folder}", "{folder}/none"])
def test_no_model(model: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "vit"}')
    with pytest.raises(InputError, match="image-text-to-text"):
        TransformersCaptioner(model.format(folder=tmp_path))


def test_captions_come_with_the_scenes_everywhere(source: Reader, truths: Truths, tmp_path: Path) -> None:
    caption, _ = numbered()
    results = list(write_captions(source, source.scenes, caption, "owner/name", frames=2))
    assert [r.captions for r in results] == [(f"picture {n}", f"picture {n + 1}") for n in (1, 3, 5)]
    own = (truths("standard").caption, "The same again.")
    reader = again(source)
    assert reader[1].captions == (*own, "picture 3", "picture 4")
    stream = SampledClips({"standard": reader}, ClipSampler(frames=2, height=16, width=16), count=60)
    assert {stream[p].caption for p in range(60)} == {*own, *(f"picture {n}" for n in range(1, 7))}
    list(convert(reader, ["b/plaza"], tmp_path / "made"))
    assert open_dataset("standard", tmp_path / "made")[0].captions == (*own, "picture 3", "picture 4")


def test_what_is_there_is_kept(source: Reader) -> None:
    caption, seen = numbered()
    working = write_captions(source, source.scenes, caption, "owner/name")
    next(working)
    working.close()  # interrupted
    assert read_captions(source.root) == {"a/plaza": ("picture 1",)}
    results = list(write_captions(again(source), source.scenes, caption, "owner/name"))
    assert [r.there for r in results] == [True, False, False]
    assert len(seen) == 3
    assert results[0].captions == ("picture 1",)
    assert [p.name for p in (source.root / FOLDER).iterdir()] == ["owner--name.json"]


def test_captions_are_saved_while_others_are_written(source: Reader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(captions, "EVERY", 0.0)
    working = write_captions(source, source.scenes, numbered()[0], "owner/name")
    next(working)
    assert read_captions(source.root) == {"a/plaza": ("picture 1",)}


def test_models_do_not_share_captions(source: Reader) -> None:
    for model in ("one", "/models/two/"):
        list(write_captions(source, source.scenes, lambda picture, model=model: model, model))
    assert sorted(again(source)[0].captions[2:]) == ["/models/two/", "one"]
    with pytest.raises(InputError, match="another model or prompt"):
        next(write_captions(source, source.scenes, lambda picture: "x", "one", prompt="What is it?"))


def test_a_scene_that_cannot_be_read_is_left_out(source: Reader) -> None:
    (source.root / "b" / "plaza" / "transforms.json").write_text("{}")
    a, b, c = write_captions(source, source.scenes, numbered()[0], "owner/name")
    assert (a.error, c.error) == ("", "")
    assert "transforms.json" in b.error
    assert set(read_captions(source.root)) == {"a/plaza", "c/plaza"}


@pytest.mark.parametrize("text", ["", "{}", '{"model": "m", "prompt": "", "captions": {"a/plaza": [3]}}', "[1]"])
def test_a_damaged_file(text: str, source: Reader) -> None:
    path = source.root / FOLDER / "owner--name.json"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    with pytest.raises(InputError, match="delete it and write them again"):
        source[0]
    with pytest.raises(InputError, match="delete it and write them again"):
        next(write_captions(source, source.scenes, numbered()[0], "owner/name"))


def test_the_command(source: Reader, blip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["data", "caption", str(source.root), "--model", str(blip), "--device", "cpu"]
    assert main([*arguments, "--scene", "a/"]) == 0
    assert "1 scenes captioned, 0 were there, 0 skipped" in capsys.readouterr().out
    assert main(arguments) == 0
    assert "2 scenes captioned, 1 were there, 0 skipped" in capsys.readouterr().out
    (path,) = (source.root / FOLDER).iterdir()
    written = json.loads(path.read_text())
    assert (written["model"], written["prompt"]) == (str(blip), "")
    assert again(source)[2].captions[2:] == tuple(written["captions"]["c/plaza"])
    assert main([*arguments, "--prompt", "a red"]) == 2
    assert "another model or prompt" in capsys.readouterr().err
