"""How a model is made: its stages in order, each from the folders of those before it, and the package they end in.

A run's folder holds train/ (clips, or datasets in folders of their names), held-out/ (clips for sample sheets), one
folder a stage with its checkpoint, and latents/.
"""

import json
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import torch
from accelerate import Accelerator
from diffusers import ModelMixin
from PIL.Image import Image
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import nn
from transformers import PreTrainedTokenizerBase, PreTrainedTokenizerFast

from gen3r.checkpoints.identity import component_hash
from gen3r.checkpoints.load import load_components, save_components
from gen3r.data.clips import ClipSampler
from gen3r.data.readers import open_mixture
from gen3r.data.records import ClipSource
from gen3r.data.sampled_clips import SampledClips
from gen3r.data.shards import ClipShards
from gen3r.errors import InputError
from gen3r.files import whole_file
from gen3r.models.components import Components
from gen3r.models.encoders import encode_text
from gen3r.models.presets import ModelConfig, build_components, build_scheduler, distilled, nano
from gen3r.models.tokens import packed_tokens
from gen3r.pipeline import Gen3RPipeline
from gen3r.training.engine.checkpoint import CHECKPOINT, holds, load_average, saved_step
from gen3r.training.engine.logs import check_trackers
from gen3r.training.engine.loop import train
from gen3r.training.engine.plan import plan
from gen3r.training.latent_cache.encode import encode_clips
from gen3r.training.latent_cache.options import EncodeOptions
from gen3r.training.latent_cache.shards import KINDS, LatentCache, kinds_in, model_hashes, shards_of
from gen3r.training.lora import save_adapters
from gen3r.training.recipes import PRESETS, Preset
from gen3r.training.sheets import sample_sheet
from gen3r.training.stages.adapter import AdapterStage
from gen3r.training.stages.autoencoder import AutoencoderStage
from gen3r.training.stages.diffusion import DiffusionStage
from gen3r.training.stages.distill import DistillStage
from gen3r.training.stages.geometry import GeometryStage
from gen3r.training.stages.stage import Stage
from gen3r.training.stages.text import TextStage

SHEET_CLIPS = 3
SHARD_SIZE = "15MB"  # of a packaged model's files, which are committed
STATISTICS_CLIPS = 48
STATISTICS = ("latents_mean", "latents_std")
STATISTICS_OF = ("vae", "geo_adapter")
BUILT_ON = {
    "autoencoder": (), "geometry": (), "adapter": ("vae", "vggt"), "text": ("vae", "vggt", "geo_adapter"),
    "diffusion": ("vae", "vggt", "geo_adapter"),
    "distill": ("vae", "vggt", "geo_adapter", "transformer", "text_encoder", "image_encoder"),
    "lora": ("vae", "vggt", "geo_adapter", "transformer", "text_encoder", "image_encoder"),
}  # fmt: skip
STAGE_OF = {
    "vae": "autoencoder", "vggt": "geometry", "geo_adapter": "adapter",
    "transformer": "diffusion", "text_encoder": "diffusion", "image_encoder": "diffusion",
}  # fmt: skip
ALL = tuple(STAGE_OF)
USED = {
    "autoencoder": ("vae",), "geometry": ("vggt",), "adapter": ("vae", "vggt", "geo_adapter"),
    "text": ("vae", "vggt", "geo_adapter", "text_encoder"),
}  # fmt: skip
ENCODERS = ("text_encoder", "image_encoder")
SIZES = ("text_length", "num_frames", "height", "width")
DRAWS = 1 << 20  # clips that may be drawn from datasets
BASES = {"distill": "teacher.json", "lora": "base.json"}  # where a stage remembers the transformer that it is made from


@dataclass(frozen=True)
class Run:
    """A run's folder, and the model that stands in for what has not been trained there (None: nothing does).

    A stage without a checkpoint starts from that model's weights instead of random ones.
    anew: what this run trains has new weights all the same, and the model's configuration but for these arguments by
        component. None: it does not.
    endless: autoencoder, geometry and adapter see new scenes of the small world at every step, and none of train/;
        latents are measured on such scenes too.
    keep_latents: the adapter is trained to make the starting model's geometry latents, with their statistics.
    """

    folder: Path
    start: str | Path | None = None
    config: ModelConfig = field(default_factory=nano)
    preset: Preset = PRESETS["nano"]
    anew: Mapping[str, dict[str, Any]] | None = None
    endless: bool = False
    keep_latents: bool = False

    @cached_property
    def model(self) -> ModelConfig:
        """`config`, with the starting model's own sizes and, unless it is distilled, its own way of sampling."""
        if not self.start:
            return self.config
        scheduler, defaults = self._given_sampling(self.start)
        names = SIZES if scheduler.config.get("shift_terminal") else self.config.defaults
        shift = scheduler.config.get("shift", self.config.shift)
        return replace(self.config, shift=shift, **{name: defaults[name] for name in names})

    def train(self, stage: str, overrides: dict[str, Any], trackers: Sequence[str] = (), **arguments: Any) -> None:
        """Trains one stage to its end, or from its checkpoint on.

        `overrides` replace fields of its `TrainConfig`, `arguments` those of its class.
        """
        check_trackers(trackers)
        phases = self.preset.phases(stage, overrides)
        done = saved_step(self.folder / stage)
        for phase in [p for p in phases if p.config.steps > done] or phases[-1:]:
            torch.manual_seed(phase.config.seed)
            parts = self.components(BUILT_ON[stage], USED.get(stage, ALL))
            base = component_hash(parts["transformer"]) if stage in BASES else ""
            made = self.make_stage(stage, parts, **{**phase.arguments, **arguments})
            own = {"start": str(self.start), "endless": self.endless, "keep_latents": self.keep_latents}
            made.settings = {**own, **phase.arguments, **arguments}
            if base:
                self._note_base(stage, base)
            train(made, phase.config, self.folder / stage, self.sheet(stage, parts), trackers)
        if stage == "adapter" and self.keep_latents and Accelerator().is_main_process:
            # settles its statistics while it is known to keep them
            self.components(("geo_adapter",), ("geo_adapter",))
        if stage == "lora" and Accelerator().is_main_process:
            save_adapters(self.folder / stage, parts["transformer"])

    def plan(self, stage: str, overrides: dict[str, Any], **arguments: Any) -> list[str]:
        """What `train` would do, in lines; it does one step and writes nothing but a finished stage's statistics."""
        lines = []
        for phase in self.preset.phases(stage, overrides):
            parts = self.components(BUILT_ON[stage], USED.get(stage, ALL))
            made = self.make_stage(stage, parts, **{**phase.arguments, **arguments})
            lines += plan(made, phase.config, self.folder / stage)
        return lines

    def sheet(self, stage: str, parts: dict[str, Any]) -> Callable[[], Image] | None:
        """What draws sample sheets of the clips in held-out/; None without them, and for a stage without pictures."""
        if stage == "text" or not (self.folder / "held-out").exists():
            return None
        clips = ClipShards(self.folder / "held-out")
        pipe = self.pipeline(parts, distilled(self.model) if stage == "distill" else self.model)
        return partial(sample_sheet, stage, pipe, [clips[i] for i in range(min(SHEET_CLIPS, len(clips)))])

    def pipeline(self, parts: dict[str, Any], config: ModelConfig) -> Gen3RPipeline:
        """What `parts` make as a model that samples as `config` says."""
        rest = {"tokenizer": self.tokenizer(), "scheduler": build_scheduler(config)}
        unused: dict[str, Any] = dict.fromkeys(ALL)
        pipe = Gen3RPipeline(**(unused | parts | rest), defaults=config.defaults)
        pipe.mixed_precision = True
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def make_stage(self, name: str, parts: dict[str, Any], **arguments: Any) -> Stage:
        """A stage of `parts`: the modules that it trains, and the finished ones that it builds on.

        arguments: of the stage's class, beside these.
        """
        config = self.model
        if name == "autoencoder":
            return AutoencoderStage(parts["vae"], self._clips_at_hand(), **arguments)
        if name == "geometry":
            return GeometryStage(parts["vggt"], self._clips_at_hand(), **arguments)
        if name == "adapter":
            frames = arguments.get("frames")
            clips = self._clips_at_hand(max(frames) if frames else None, DRAWS)
            if self.keep_latents:
                before = self._given_modules(cast(str, self.start), ("vggt", "geo_adapter"))
                arguments["before"] = before["vggt"], before["geo_adapter"]
            stage = AdapterStage(parts["geo_adapter"], parts["vggt"], parts["vae"], clips, **arguments)
            given = self.start and self.anew is None
            if not (given or (self.folder / name / CHECKPOINT).exists()):
                stage.start_afresh()
            return stage
        if name == "text":
            if shards_of(self.folder / "latents", "embeddings"):
                raise InputError("this run's latents hold what a frozen text encoder says; text would train another")
            tokenizer = self.tokenizer()
            latents = self.still_latents(parts) or self.latents(parts)
            return TextStage(parts["text_encoder"], tokenizer, latents, config.text_length, **arguments)
        if name in BASES:
            self._check_base(name, parts)
        if parts["geo_adapter"].frames_per_latent != 4:
            raise InputError(
                "this adapter's latents are longer than the appearance's; they cannot be denoised together"
            )
        parts["tokenizer"] = self.tokenizer()
        latents, stills = self.latents(parts), None if name == "distill" else self.still_latents(parts)
        frozen = "embeddings" in latents.kinds
        text_encoder, image_encoder = (None if frozen else parts[n] for n in ENCODERS)
        arguments = {
            "transformer": parts["transformer"], "text_encoder": text_encoder, "image_encoder": image_encoder,
            "tokenizer": parts["tokenizer"], "vae": parts["vae"], "latents": latents, "still_latents": stills,
            "text_length": config.text_length, "frames": config.num_frames, "size": (config.height, config.width),
            "shift": config.shift, **arguments,
        }  # fmt: skip
        return self._distill_stage(parts, arguments) if name == "distill" else DiffusionStage(**arguments)

    def _distill_stage(self, parts: dict[str, Any], arguments: dict[str, Any]) -> DistillStage:
        """The student, whose teacher is the finished transformer as the model's own defaults sample from it."""
        config, student = self.model, distilled(self.model)
        with torch.no_grad():
            no_text = encode_text(
                parts["tokenizer"], parts["text_encoder"], [config.negative_prompt], config.text_length,
                torch.device("cpu"),
            ).float()  # fmt: skip
        return DistillStage(
            build_scheduler(student), student.num_inference_steps, guidance=config.guidance_scale, no_text=no_text,
            hold_given=config.clamp_known, **arguments,
        )  # fmt: skip

    def latents(self, parts: dict[str, Any]) -> LatentCache:
        """The run's latent cache, which must be what these components make of its clips (of any, if it has none)."""
        clips = self.clips(count=DRAWS) if (self.folder / "train").is_dir() else None
        return self._latents_in(self.folder / "latents", parts, self.model.num_frames, clips)

    def still_latents(self, parts: dict[str, Any]) -> LatentCache | None:
        """Latents of the scenes of one frame each in stills/; None where there are none."""
        folder = self.folder / "stills"
        if not (folder / "latents").is_dir():
            return None
        clips = self.stills() if (folder / "train").is_dir() else None
        return self._latents_in(folder / "latents", parts, 1, clips)

    def _latents_in(self, folder: Path, parts: dict[str, Any], frames: int, clips: ClipSource | None) -> LatentCache:
        """A latent cache, in an accelerator's memory where there is room."""
        config = self.model
        models = model_hashes(kinds_in(folder), SimpleNamespace(**parts), config.text_length)
        latents = LatentCache(folder, models, (frames, config.height, config.width), clips)
        latents.hold(Accelerator().device)
        return latents

    def encode_latents(
        self, kind: str, count: int | None = None, part: int = 0, parts: int = 1, stills: bool = False
    ) -> None:
        """Fills a kind of the latent cache (a key of `KINDS`) for the first `count` clips, or of those in stills/.

        Several processes may share the work, each with its own `part` of `parts`. What older models made is replaced.
        """
        names = KINDS[kind]
        components = self.components(names, names)
        modules = SimpleNamespace(**{name: components[name].to(Accelerator().device) for name in names})
        command = ["gen3r", "train", f"{kind}-latents", "--folder", str(self.folder)]
        command += ["--start", str(self.start)] if self.start else []
        command += ["--stills"] if stills else []
        clips, folder = (self.stills(), self.folder / "stills") if stills else (self.clips(), self.folder)
        options = EncodeOptions(clips=count, shard=part, num_shards=parts, overwrite=True)
        length = self.model.text_length
        encode_clips([kind], modules, clips, folder / "latents", length, options, shlex.join(command))

    def package(self, target: Path, teacher: bool = False) -> None:
        """Writes a pipeline folder: the averaged weights of all stages in bfloat16, what was not trained as it is.

        The transformer is the distilled one, if there is one and `teacher` is False; scheduler and defaults follow.

        Raises:
            InputError: a stage is missing, or the distilled transformer was made from an older one.
        """
        trained = self._begun() if self.start else ALL
        parts = self.components(trained, trained)
        if self.start:
            parts |= load_components(self.start, only=set(ALL) - {*trained}).modules()
        scheduler, defaults = self._sampling()
        if not teacher and (self.folder / "distill" / CHECKPOINT).exists():
            self._check_base("distill", parts)
            load_average(self.folder / "distill", parts["transformer"], "transformer.")
            student = distilled(self.model)
            scheduler, defaults = build_scheduler(student), student.defaults
        parts |= {name: parts[name].to(torch.bfloat16) for name in trained}
        save_components(
            Components(**parts, tokenizer=self.tokenizer(), scheduler=scheduler, defaults=defaults), target, SHARD_SIZE
        )

    def components(self, finished: tuple[str, ...], used: tuple[str, ...] = ALL) -> dict[str, Any]:
        """The modules `used`: `finished` ones with the averaged weights of their stage, the rest ready to train."""
        begun = self._begun()
        parts = self._given_modules(self.start, used) if self.start else build_components(self.config).modules()
        for name, module in parts.items():
            trains = name not in finished
            if self.anew is not None and (trains or name in begun):
                module = parts[name] = _like(module, self.anew.get(name, {}))
            if name in STATISTICS_OF and (trains or name in begun):  # they are measured once the weights are there
                module.register_to_config(latents_mean=(0.0,) * 16, latents_std=(1.0,) * 16)
            if trains and self.start and self.anew is None:
                module.requires_grad_(True)
            elif trains:
                _initialise(name, module)
            elif name in begun or not self.start:
                load_average(self.folder / STAGE_OF[name], module, _prefix(name))
                if name in STATISTICS_OF:
                    module.register_to_config(**self._statistics(name, module))
            if trains and name == "text_encoder" and holds(self.folder / "text", _prefix(name)):
                load_average(self.folder / "text", module, _prefix(name))
            module.train(trains)
        return parts

    def _begun(self) -> tuple[str, ...]:
        """The components that the checkpoints of this run hold."""
        return tuple(name for name, stage in STAGE_OF.items() if holds(self.folder / stage, _prefix(name)))

    def clips(self, frames: int | None = None, count: int | None = None) -> ClipSource:
        """The training clips: new ones of the small world if `endless`, else the shards of train/, or `count` clips
        drawn from the datasets there, by default an epoch.

        frames: at least that many a clip; of datasets, by default as many as the model makes.

        Raises:
            InputError: there are none, or the shards hold fewer frames.
        """
        folder, config = self.folder / "train", self.model
        if self.endless:
            from gen3r.data.synthetic import EndlessClips

            return EndlessClips((config.num_frames, config.height, config.width))
        if readers := open_mixture(folder):
            sampler = ClipSampler(frames=frames or config.num_frames, height=config.height, width=config.width)
            return SampledClips(readers, sampler, count)
        shards = ClipShards(folder)
        if shards.shape[0] < (frames or 0):
            raise InputError(f"the clips in {folder} have {shards.shape[0]} frames; this phase takes {frames}")
        return shards

    def stills(self) -> ClipShards:
        """The scenes of one frame each.

        Raises:
            InputError: there are none, or clips instead.
        """
        folder = self.folder / "stills" / "train"
        shards = ClipShards(folder) if any(folder.glob("clips-*.safetensors")) else None
        if shards is None or shards.shape[0] != 1:
            raise InputError(f"{folder} holds no scenes of one frame; make some in an empty folder of that name with: "
                             f"gen3r data synthesize 12288 {folder} --frames 1")  # fmt: skip
        return shards

    def _clips_at_hand(self, frames: int | None = None, count: int | None = None) -> ClipSource:
        """`clips`; shards in an accelerator's memory, where there is room."""
        clips = self.clips(frames, count)
        if isinstance(clips, ClipShards):
            clips.hold(Accelerator().device)
        return clips

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The starting model's, or one learned from the training captions: the same captions give the same one."""
        if self.start:
            return load_components(self.start, only=("tokenizer",)).tokenizer
        return learn_tokenizer(ClipShards(self.folder / "train").captions, self.config)

    def _given_modules(self, model: str | Path, used: tuple[str, ...]) -> dict[str, Any]:
        """The starting model's modules in float32; encoders that are not run, in their stored type."""
        given = vars(load_components(model, only=used))
        idle = ENCODERS if shards_of(self.folder / "latents", "embeddings") else ()
        return {name: given[name] if name in idle else given[name].float() for name in used}

    def _given_sampling(self, model: str | Path) -> tuple[Any, dict[str, Any]]:
        """The starting model's scheduler and defaults."""
        given = load_components(model, only=())
        return given.scheduler, given.defaults

    def _sampling(self) -> tuple[Any, dict[str, Any]]:
        """Scheduler and defaults of the transformer before `distill`: its own where the starting model brings it."""
        if self.start and not (self.folder / "diffusion" / CHECKPOINT).exists():
            return self._given_sampling(self.start)
        return build_scheduler(self.model), self.model.defaults

    def _note_base(self, stage: str, base: str) -> None:
        """Remembers the transformer that a stage is made from."""
        with whole_file(self.folder / stage / BASES[stage]) as partial:
            partial.write_text(json.dumps({"transformer": base}))

    def _check_base(self, stage: str, parts: dict[str, Any]) -> None:
        """Refuses parts that a stage's checkpoint was not made from, and a teacher that is distilled itself."""
        if stage == "distill" and self._sampling()[0].config.get("shift_terminal"):
            raise InputError(f"{self.start} is distilled already; start from the model that it was distilled from")
        folder = self.folder / stage
        if not (folder / CHECKPOINT).exists():
            return
        path = folder / BASES[stage]
        known = json.loads(path.read_text()) if path.exists() else {}
        if component_hash(parts["transformer"]) != known.get("transformer"):
            made, again = {
                "distill": ("was distilled from", "give gen3r train distill again, or package with --teacher"),
                "lora": ("adapts", "start anew, or from the model that it was trained for"),
            }[stage]
            raise InputError(f"{folder} {made} another transformer; remove it and {again}")

    def _statistics(self, name: str, module: Any) -> dict[str, list[float]]:
        """Means and standard deviations of a finished component's latents, settled once for its weights: measured, or
        the starting model's where an adapter keeps its latents."""
        path = self.folder / STAGE_OF[name] / "statistics.json"
        vggt = self.components(("vggt",), ("vggt",))["vggt"] if name == "geo_adapter" else None
        weights = [component_hash(m) for m in (module, vggt) if m is not None]
        if not path.exists() or json.loads(path.read_text()).get("weights") != weights:
            if name == "geo_adapter" and self.keep_latents:
                config = self._given_modules(cast(str, self.start), (name,))[name].config
                found = {key: config[key] for key in STATISTICS}
            else:
                found = self._measure(module, vggt)
            with whole_file(path) as partial:
                partial.write_text(json.dumps({"weights": weights, **found}, indent=1))
        known = json.loads(path.read_text())
        return {key: known[key] for key in STATISTICS}

    @torch.inference_mode()
    def _measure(self, module: Any, vggt: Any | None) -> dict[str, list[float]]:
        clips, latents = self.clips(), []
        device = Accelerator().device
        for part in (module, vggt):
            if part is not None:
                part.to(device)
        for number in range(min(STATISTICS_CLIPS, len(clips))):
            frames = clips[number].images[None].to(device)
            if vggt is None:
                latents.append(module.encode_video((2 * frames - 1).transpose(1, 2)).mean)
            else:
                latents.append(module.encode(packed_tokens(vggt, frames)).mean)
        module.to("cpu")
        stacked = torch.cat(latents).transpose(0, 1).flatten(1)
        return {"latents_mean": stacked.mean(1).tolist(), "latents_std": stacked.std(1).tolist()}


def _prefix(component: str) -> str:
    """How the names of a component's weights start in its stage."""
    return "adapter." if component == "geo_adapter" else f"{component}."


def _like(module: Any, changes: dict[str, Any]) -> Any:
    """Another module of a kind and configuration, but for `changes`, with new weights."""
    kind = type(module)
    if not isinstance(module, ModelMixin):
        return kind(module.config).float()
    arguments = {name: value for name, value in module.config.items() if not name.startswith("_")}
    return kind(**(arguments | changes))


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
