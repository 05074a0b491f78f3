"""How nano is made: its stages in order, each from the folders of those before it, and the package they end in.

A run's folder holds train/ (clips), one folder a stage with its checkpoint, latents/, and statistics.json.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from gen3r.checkpoints.load import save_components
from gen3r.data.shards import ClipShards
from gen3r.errors import InputError
from gen3r.files import whole_file
from gen3r.models.presets import ModelConfig, build_components, build_scheduler, nano
from gen3r.models.tokens import pack_tokens
from gen3r.training.adapter_step import AdapterStage
from gen3r.training.autoencoder_step import AutoencoderStage
from gen3r.training.diffusion_step import DiffusionStage
from gen3r.training.geometry_step import GeometryStage
from gen3r.training.latents import LatentShards, appearance_encoder, encode_clips, geometry_encoder
from gen3r.training.loop import Stage, TrainConfig, load_average, train

STATISTICS_CLIPS = 48
STAGES = {
    "autoencoder": TrainConfig(steps=4600, batch_size=2, learning_rate=2e-3, weight_decay=0.0, ema_decay=0.998),
    "geometry": TrainConfig(steps=4000, batch_size=34, learning_rate=1.5e-3, ema_decay=0.998, decay_fraction=0.3),
    "adapter": TrainConfig(steps=320, batch_size=2, learning_rate=2e-3, ema_decay=0.99, weight_decay=0.0, warmup=30),
    "diffusion": TrainConfig(
        steps=740, batch_size=6, learning_rate=1.5e-3, ema_decay=0.995, warmup=50, decay_fraction=0.4
    ),
}


def run_stage(name: str, folder: Path, overrides: dict[str, Any]) -> None:
    """Trains one stage to its end, or from its checkpoint on; `overrides` replace fields of its `TrainConfig`."""
    config = replace(STAGES[name], **overrides)
    torch.manual_seed(config.seed)
    train(make_stage(name, folder), config, folder / name)


def make_stage(name: str, folder: Path) -> Stage:
    """A stage with fresh modules to train and the averaged weights of the stages it builds on."""
    config = nano()
    parts = trained_components(folder, config, {"autoencoder": (), "geometry": ()}.get(name, ("vae", "vggt")))
    if name == "autoencoder":
        return AutoencoderStage(parts["vae"], ClipShards(folder / "train"))
    if name == "geometry":
        return GeometryStage(parts["vggt"], ClipShards(folder / "train"))
    if name == "adapter":
        return AdapterStage(parts["geo_adapter"], parts["vggt"], parts["vae"], ClipShards(folder / "train"))
    return DiffusionStage(
        parts["transformer"], parts["text_encoder"], parts["image_encoder"], make_tokenizer(folder, config),
        parts["vae"], LatentShards(folder / "latents"), config.text_length, config.num_frames,
        (config.height, config.width), config.shift,
    )  # fmt: skip


def encode_latents(half: str, folder: Path, count: int | None = None, part: int = 0, parts: int = 1) -> None:
    """Fills a half of the latent cache, `appearance` or `geometry`, for the first `count` clips.

    Several processes may share the work, each with its own `part` of `parts`.
    """
    clips = ClipShards(folder / "train")
    names = ("vae",) if half == "appearance" else ("vggt", "geo_adapter")
    components = trained_components(folder, nano(), names)
    modules = [components[name].to(Accelerator().device) for name in names]
    encode = appearance_encoder(*modules) if half == "appearance" else geometry_encoder(*modules)
    encode_clips(half, encode, clips, folder / "latents", count, part, parts)


def package(folder: Path, target: Path) -> None:
    """Writes the averaged weights of all stages, in bfloat16, as a pipeline folder."""
    config = nano()
    names = ("vae", "vggt", "geo_adapter", "transformer", "text_encoder", "image_encoder")
    parts: dict[str, Any] = {k: m.to(torch.bfloat16) for k, m in trained_components(folder, config, names).items()}
    parts |= {"tokenizer": make_tokenizer(folder, config), "scheduler": build_scheduler(config)}
    save_components({**parts, "defaults": config.defaults}, target)


def trained_components(folder: Path, config: ModelConfig, trained: tuple[str, ...]) -> dict[str, Any]:
    """The modules of a configuration: `trained` ones with their stage's averaged weights, the rest ready to train."""
    stages = {"vae": "autoencoder", "vggt": "geometry", "geo_adapter": "adapter"}
    statistics = _statistics(folder)
    for name in ("vae", "geo_adapter"):
        if name in statistics and name in trained:
            config = replace(config, **{name: {**getattr(config, name), **statistics[name]}})
    parts = build_components(config)
    for name, module in parts.items():
        if name in trained:
            place = folder / stages.get(name, "diffusion")
            load_average(place, module, {"geo_adapter": "adapter."}.get(name, f"{name}."))
            module.eval()
        else:
            _initialise(name, module)
    measured = [n for n in ("vae", "geo_adapter") if n in trained and n not in statistics]
    if measured:
        for name in measured:
            statistics[name] = _measure(name, parts, ClipShards(folder / "train"))
        with whole_file(folder / "statistics.json") as partial:
            partial.write_text(json.dumps(statistics, indent=1))
        return trained_components(folder, config, trained)
    return parts


def _initialise(name: str, module: Any) -> None:
    if name in ("vggt", "transformer"):
        module.init_weights()
    if name in ("vae", "geo_adapter"):
        with torch.no_grad():  # start with narrow posteriors: wide ones drown what is to be learned
            module.quant_conv.bias[len(module.quant_conv.bias) // 2 :] = -4.0
    if name == "vae":
        for layer in module.modules():  # convolutions run a quarter faster on a CPU with the channels last
            if isinstance(layer, nn.Conv3d):
                layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last_3d)


def _statistics(folder: Path) -> dict[str, Any]:
    path = folder / "statistics.json"
    return json.loads(path.read_text()) if path.exists() else {}


@torch.inference_mode()
def _measure(name: str, parts: dict[str, Any], clips: ClipShards) -> dict[str, list[float]]:
    """Channel means and standard deviations of a component's latents over some clips."""
    latents = []
    for number in range(min(STATISTICS_CLIPS, len(clips))):
        frames = clips[number].frames.permute(0, 3, 1, 2)[None].float() / 255
        if name == "vae":
            latents.append(parts["vae"].encode_video((2 * frames - 1).transpose(1, 2)).mean)
        else:
            latents.append(parts["geo_adapter"].encode(_tokens(parts["vggt"], frames)).mean)
    stacked = torch.cat(latents).transpose(0, 1).flatten(1)
    return {"latents_mean": stacked.mean(1).tolist(), "latents_std": stacked.std(1).tolist()}


def _tokens(vggt: Any, frames: Tensor) -> Tensor:
    patch = vggt.config.patch_size
    return pack_tokens(vggt.tokens(frames), (frames.shape[-2] // patch, frames.shape[-1] // patch))


def make_tokenizer(folder: Path, config: ModelConfig) -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer learned from the training captions; the same captions give the same one."""
    clips = ClipShards(folder / "train")
    captions = clips.captions
    if len(captions) < 1:
        raise InputError(f"{folder / 'train'} has no captions to learn a tokenizer from")
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=config.text_encoder["vocab_size"], special_tokens=["<pad>", "</s>", "<unk>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False,
    )  # fmt: skip
    tokenizer.train_from_iterator(captions, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>",
        model_max_length=config.text_length,
    )  # fmt: skip
