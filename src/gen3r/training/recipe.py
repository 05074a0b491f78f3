"""How nano is made: its stages in order, each from the folders of those before it, and the package they end in.

A run's folder holds train/ (clips), held-out/ (clips for sample sheets), one folder a stage with its checkpoint, and
latents/.
"""

import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from PIL.Image import Image
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from gen3r.checkpoints.identity import component_hash
from gen3r.checkpoints.load import load_components, save_components
from gen3r.data.shards import ClipShards
from gen3r.errors import InputError
from gen3r.files import whole_file
from gen3r.models.encoders import encode_text
from gen3r.models.presets import ModelConfig, build_components, build_scheduler, distilled, nano
from gen3r.models.tokens import packed_tokens
from gen3r.pipeline import Gen3RPipeline
from gen3r.training.adapter_step import AdapterStage
from gen3r.training.autoencoder_step import AutoencoderStage
from gen3r.training.checkpoint import CHECKPOINT, load_average
from gen3r.training.config import TrainConfig
from gen3r.training.diffusion_step import DiffusionStage
from gen3r.training.distill_step import DistillStage
from gen3r.training.encoding import clip_encoder, encode_clips
from gen3r.training.geometry_step import GeometryStage
from gen3r.training.latents import HALVES, LatentShards, kinds_in, model_hashes
from gen3r.training.loop import train
from gen3r.training.metrics import check_trackers
from gen3r.training.plan import plan
from gen3r.training.sheets import sample_sheet
from gen3r.training.stage import Stage

SHEET_CLIPS = 3
STATISTICS_CLIPS = 48
STATISTICS_OF = ("vae", "geo_adapter")
STAGES = {
    "autoencoder": TrainConfig(steps=3450, batch_size=2, learning_rate=2e-3, weight_decay=0.0, ema_decay=0.998),
    "geometry": TrainConfig(steps=4000, batch_size=34, learning_rate=2.5e-3, ema_decay=0.998, decay_fraction=0.5),
    "adapter": TrainConfig(steps=1450, batch_size=40, learning_rate=6e-4, ema_decay=0.99, weight_decay=0.0, warmup=30),
    "diffusion": TrainConfig(
        steps=2000, batch_size=8, learning_rate=2e-3, ema_decay=0.995, warmup=50, decay_fraction=0.4
    ),
    "distill": TrainConfig(steps=800, batch_size=8, learning_rate=2e-4, ema_decay=0.99, warmup=50, decay_fraction=0.5),
}
BUILT_ON = {
    "autoencoder": (), "geometry": (), "adapter": ("vae", "vggt"), "diffusion": ("vae", "vggt", "geo_adapter"),
    "distill": ("vae", "vggt", "geo_adapter", "transformer", "text_encoder", "image_encoder"),
}  # fmt: skip
STAGE_OF = {
    "vae": "autoencoder", "vggt": "geometry", "geo_adapter": "adapter",
    "transformer": "diffusion", "text_encoder": "diffusion", "image_encoder": "diffusion",
}  # fmt: skip


@dataclass(frozen=True)
class Run:
    """A run's folder, and the model that stands in for what has not been trained there (None: nothing does).

    A stage without a checkpoint starts from that model's weights instead of random ones.
    """

    folder: Path
    start: str | Path | None = None
    config: ModelConfig = field(default_factory=nano)

    def train(self, stage: str, overrides: dict[str, Any], trackers: Sequence[str] = ()) -> None:
        """Trains one stage to its end, or from its checkpoint on; `overrides` replace fields of its `TrainConfig`."""
        check_trackers(trackers)
        config = replace(STAGES[stage], **overrides)
        torch.manual_seed(config.seed)
        parts = self.components(BUILT_ON[stage])
        made = self.make_stage(stage, parts)
        if stage == "distill":
            self._note_teacher(parts)
        train(made, config, self.folder / stage, self.sheet(stage, parts), trackers)

    def plan(self, stage: str, overrides: dict[str, Any]) -> list[str]:
        """What `train` would do, in lines; it does one step and writes nothing but a finished stage's statistics."""
        parts = self.components(BUILT_ON[stage])
        return plan(self.make_stage(stage, parts), replace(STAGES[stage], **overrides), self.folder / stage)

    def sheet(self, stage: str, parts: dict[str, Any]) -> Callable[[], Image] | None:
        """What draws sample sheets of the clips in held-out/; None without them."""
        if not (self.folder / "held-out").exists():
            return None
        clips = ClipShards(self.folder / "held-out")
        config = distilled(self.config) if stage == "distill" else self.config
        rest = {"tokenizer": self.tokenizer(), "scheduler": build_scheduler(config)}
        pipe = Gen3RPipeline(**(parts | rest), defaults=config.defaults)
        pipe.mixed_precision = True
        pipe.set_progress_bar_config(disable=True)
        return partial(sample_sheet, stage, pipe, [clips[i] for i in range(min(SHEET_CLIPS, len(clips)))])

    def make_stage(self, name: str, parts: dict[str, Any]) -> Stage:
        """A stage of `parts`: the modules that it trains, and the finished ones that it builds on."""
        config = self.config
        if name == "autoencoder":
            return AutoencoderStage(parts["vae"], self.clips())
        if name == "geometry":
            return GeometryStage(parts["vggt"], self.clips())
        if name == "adapter":
            stage = AdapterStage(parts["geo_adapter"], parts["vggt"], parts["vae"], self.clips(), depth_weight=6.0)
            if not (self.start or (self.folder / name / CHECKPOINT).exists()):
                stage.start_afresh()
            return stage
        if name == "distill":
            self._check_teacher(parts)
        parts["tokenizer"] = self.tokenizer()
        latents = self.latents(parts)
        frozen = "contexts" in latents.kinds
        text_encoder, image_encoder = (None if frozen else parts[n] for n in ("text_encoder", "image_encoder"))
        arguments: dict[str, Any] = {
            "transformer": parts["transformer"], "text_encoder": text_encoder, "image_encoder": image_encoder,
            "tokenizer": parts["tokenizer"], "vae": parts["vae"], "latents": latents,
            "text_length": config.text_length, "frames": config.num_frames, "size": (config.height, config.width),
            "shift": config.shift,
        }  # fmt: skip
        return DiffusionStage(**arguments) if name == "diffusion" else self._distill_stage(parts, arguments)

    def _distill_stage(self, parts: dict[str, Any], arguments: dict[str, Any]) -> DistillStage:
        """The student, whose teacher is the finished transformer as the model's own defaults sample from it."""
        config, student = self.config, distilled(self.config)
        with torch.no_grad():
            no_text = encode_text(
                parts["tokenizer"], parts["text_encoder"], [config.negative_prompt], config.text_length,
                torch.device("cpu"),
            )  # fmt: skip
        return DistillStage(
            build_scheduler(student), student.num_inference_steps, guidance=config.guidance_scale, no_text=no_text,
            hold_given=config.hold_given, **arguments,
        )  # fmt: skip

    def latents(self, parts: dict[str, Any]) -> LatentShards:
        """The run's latent cache, which must be what these components make of its clips (of any, if it has none)."""
        folder, config = self.folder / "latents", self.config
        hashes = [model_hashes(kind, parts, config.text_length) for kind in kinds_in(folder)]
        models = {name: value for kind in hashes for name, value in kind.items()}
        clips = self.clips() if (self.folder / "train").is_dir() else None
        return LatentShards(folder, models, (config.num_frames, config.height, config.width), clips)

    def encode_latents(self, half: str, count: int | None = None, part: int = 0, parts: int = 1) -> None:
        """Fills a half of the latent cache, `appearance` or `geometry`, for the first `count` clips.

        Several processes may share the work, each with its own `part` of `parts`. What older models made is replaced.
        """
        names = HALVES[half]
        components = self.components(names)
        modules = {name: components[name].to(Accelerator().device) for name in names}
        encoder = clip_encoder(half, modules, self.config.text_length)
        command = ["gen3r", "train", f"{half}-latents", "--folder", str(self.folder)]
        command += ["--start", str(self.start)] if self.start else []
        encode_clips(
            [encoder], self.clips(), self.folder / "latents", count, part, parts, shlex.join(command), overwrite=True
        )

    def package(self, target: Path, teacher: bool = False) -> None:
        """Writes the averaged weights of all stages, in bfloat16, as a pipeline folder.

        The transformer is the distilled one, if there is one and `teacher` is False; scheduler and defaults follow.

        Raises:
            InputError: a stage is missing, or the distilled transformer was made from an older one.
        """
        parts = self.components(tuple(STAGE_OF))
        scheduler, defaults = self._sampling()
        if not teacher and (self.folder / "distill" / CHECKPOINT).exists():
            self._check_teacher(parts)
            load_average(self.folder / "distill", parts["transformer"], "transformer.")
            student = distilled(self.config)
            scheduler, defaults = build_scheduler(student), student.defaults
        parts = {name: module.to(torch.bfloat16) for name, module in parts.items()}
        save_components({**parts, "tokenizer": self.tokenizer(), "scheduler": scheduler, "defaults": defaults}, target)

    def components(self, finished: tuple[str, ...]) -> dict[str, Any]:
        """The modules: `finished` ones with the averaged weights of their stage, the rest ready to train."""
        begun = {name: (self.folder / stage / CHECKPOINT).exists() for name, stage in STAGE_OF.items()}
        given = load_components(self.start, torch.float32) if self.start else {}
        config = self.config
        for name in STATISTICS_OF:
            if name in finished and begun[name]:
                config = replace(config, **{name: {**getattr(config, name), **self._statistics(name)}})
        parts = build_components(config)
        for name, module in parts.items():
            if given and name in finished and not begun[name]:
                parts[name] = given[name]
                continue
            if given:
                module.load_state_dict(given[name].state_dict())
            if name in finished:
                prefix = {"geo_adapter": "adapter."}.get(name, f"{name}.")
                load_average(self.folder / STAGE_OF[name], module, prefix)
            elif not given:
                _initialise(name, module)
            if name in finished:
                module.eval()
        return parts

    def clips(self) -> ClipShards:
        """The training clips."""
        return ClipShards(self.folder / "train")

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The starting model's, or one learned from the training captions: the same captions give the same one."""
        if self.start:
            return load_components(self.start, skip=tuple(STAGE_OF))["tokenizer"]
        return learn_tokenizer(self.clips().captions, self.config)

    def _sampling(self) -> tuple[Any, dict[str, Any]]:
        """Scheduler and defaults of the transformer before `distill`: its own where the starting model brings it."""
        if self.start and not (self.folder / "diffusion" / CHECKPOINT).exists():
            given = load_components(self.start, skip=tuple(STAGE_OF))
            return given["scheduler"], given["defaults"]
        return build_scheduler(self.config), self.config.defaults

    def _note_teacher(self, parts: dict[str, Any]) -> None:
        """Remembers what is distilled."""
        with whole_file(self.folder / "distill" / "teacher.json") as partial:
            partial.write_text(json.dumps({"transformer": component_hash(parts["transformer"])}))

    def _check_teacher(self, parts: dict[str, Any]) -> None:
        """Refuses parts that a distilled transformer was not made from, or that are distilled themselves."""
        if self._sampling()[0].config.get("shift_terminal"):
            raise InputError(f"{self.start} is distilled already; start from the model that it was distilled from")
        folder = self.folder / "distill"
        if not (folder / CHECKPOINT).exists():
            return
        path = folder / "teacher.json"
        known = json.loads(path.read_text()) if path.exists() else {}
        if component_hash(parts["transformer"]) != known.get("transformer"):
            raise InputError(
                f"{folder} was distilled from another transformer; remove it and give gen3r train distill again, "
                "or leave it out of the package with --teacher"
            )

    def _statistics(self, name: str) -> dict[str, list[float]]:
        """Means and standard deviations of a finished component's latents, measured once for its weights."""
        path = self.folder / STAGE_OF[name] / "statistics.json"
        module = build_components(self.config)[name]
        load_average(self.folder / STAGE_OF[name], module, {"vae": "vae.", "geo_adapter": "adapter."}[name])
        vggt = self.components(("vggt",))["vggt"] if name == "geo_adapter" else None
        weights = [component_hash(m) for m in (module, vggt) if m is not None]
        if not path.exists() or json.loads(path.read_text()).get("weights") != weights:
            measured = self._measure(module, vggt)
            with whole_file(path) as partial:
                partial.write_text(json.dumps({"weights": weights, **measured}, indent=1))
        known = json.loads(path.read_text())
        return {key: known[key] for key in ("latents_mean", "latents_std")}

    @torch.inference_mode()
    def _measure(self, module: Any, vggt: Any | None) -> dict[str, list[float]]:
        clips, latents = self.clips(), []
        for number in range(min(STATISTICS_CLIPS, len(clips))):
            frames = clips[number].images[None]
            if vggt is None:
                latents.append(module.encode_video((2 * frames - 1).transpose(1, 2)).mean)
            else:
                latents.append(module.encode(packed_tokens(vggt, frames)).mean)
        stacked = torch.cat(latents).transpose(0, 1).flatten(1)
        return {"latents_mean": stacked.mean(1).tolist(), "latents_std": stacked.std(1).tolist()}


def _initialise(name: str, module: Any) -> None:
    if name in ("vggt", "transformer"):
        module.init_weights()
    if name == "vae":
        with torch.no_grad():  # start with narrow posteriors: wide ones drown what is to be learned
            module.quant_conv.bias[len(module.quant_conv.bias) // 2 :] = -4.0
        for layer in module.modules():  # convolutions run a quarter faster on a CPU with the channels last
            if isinstance(layer, nn.Conv3d):
                layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last_3d)


def learn_tokenizer(captions: list[str], config: ModelConfig) -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer of the vocabulary that a configuration's text encoder has."""
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
