"""A run: the folder in which a model is made stage by stage, each from the checkpoints of the stages before it.

train/          clip shards, or datasets in folders of their names
held-out/       clip shards for sample sheets
single_frame/   train/ and latents/ of single-frame clips
latents/        the latent cache
tokenizer/      learned from the captions in train/
STAGE/          checkpoints, logs and sample sheets of a stage
"""

import shlex
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env
from PIL.Image import Image
from transformers import PreTrainedTokenizerBase

from gen3r.checkpoints.load import load_components, transformer_config
from gen3r.data.records import ClipSource, MixedClips
from gen3r.data.shards import ClipShards
from gen3r.errors import InputError
from gen3r.files import exclusive_folder
from gen3r.models import presets
from gen3r.models.components import Components
from gen3r.pipeline import Gen3RPipeline
from gen3r.training import recipes, weights
from gen3r.training.clips import open_clips, sampled_clips, single_frame_clips
from gen3r.training.engine import loop, plan
from gen3r.training.engine.checkpoint import CHECKPOINT, saved_step
from gen3r.training.latent_cache.encode import encode_clips
from gen3r.training.latent_cache.options import EncodeOptions
from gen3r.training.latent_cache.shards import HALVES, KINDS, LatentCache, kinds_in, kinds_of, model_hashes
from gen3r.training.sheets import sample_sheet
from gen3r.training.stages import stage_class
from gen3r.training.stages.stage import Stage
from gen3r.training.tokenizer import kept_tokenizer

SHEET_CLIPS = 3
DRAWS = 1 << 20  # clips that may be drawn from datasets
SIZES = ("text_length", "num_frames", "height", "width")


@dataclass(frozen=True)
class Run:
    """A run's folder, and the model that it starts from.

    start: nano, a model folder or a Hub id. A stage without a checkpoint starts from its weights, and components that
        this run does not train are taken from it. None: every component is trained here, from new weights.
    config: sizes of the model; a starting model's own come first.
    online: autoencoder, geometry and adapter draw new scenes of the procedural world at every step instead of clips in
        train/ (online synthesis). Statistics of latents are measured on such scenes too.
    photos: a folder of photos: textures of these scenes (`gen3r.data.synthetic.WorldOptions`), and the autoencoder's
        moving crops.
    remake: (name, module) -> a component with new weights, for components that this run trains. None: they keep those
        of `start`.
    """

    folder: Path
    start: str | Path | None = None
    config: presets.ModelConfig = field(default_factory=presets.nano)
    recipe: recipes.Recipe = field(default_factory=recipes.nano)
    online: bool = False
    photos: Path | None = None
    remake: Callable[[str, Any], Any] | None = None

    @cached_property
    def model(self) -> presets.ModelConfig:
        """`config` with the starting model's sizes and, unless it is distilled, its way of sampling."""
        if not self.start:
            return self.config
        start = load_components(self.start, only=())
        names = SIZES if start.scheduler.config.get("shift_terminal") else presets.DEFAULTS
        shift = start.scheduler.config.get("shift", self.config.shift)
        return replace(self.config, shift=shift, **{name: start.defaults[name] for name in names})

    @property
    def transformer_config(self) -> Mapping[str, Any]:
        """The constructor arguments of the transformer."""
        return transformer_config(self.start) if self.start else self.config.transformer

    @property
    def sampler(self) -> Components:
        """Scheduler and defaults of the transformer before distillation, which may be the starting model's."""
        if self.start and not (self.folder / "diffusion" / CHECKPOINT).exists():
            return load_components(self.start, only=())
        return Components(scheduler=presets.build_scheduler(self.model), defaults=self.model.defaults)

    @cached_property
    def process(self) -> PartialState:
        """This process among those that were launched."""
        return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))

    @property
    def device(self) -> torch.device:
        """This process's device."""
        return torch.device(self.process.device or "cpu")

    def train(self, stage: str, changes: Mapping[str, Any], trackers: Sequence[str] = ()) -> None:
        """Trains a stage to its end, from its checkpoint on.

        changes: values for fields of the engine's or the stage's configuration, in place of the recipe's.

        Raises:
            InputError: as `loop.train`; or another launch trains this stage in this folder.
        """
        phases = recipes.phases(self.recipe, stage, changes)
        with exclusive_folder(self.folder / stage) if self.process.is_main_process else nullcontext():
            self._train(stage, phases, trackers)

    def _train(self, stage: str, phases: Sequence[recipes.Phase], trackers: Sequence[str]) -> None:
        done = saved_step(self.folder / stage)
        for phase in [p for p in phases if p.train.steps > done] or phases[-1:]:
            torch.manual_seed(phase.train.seed)
            trained = self.stage(stage, phase.stage)
            trained.prepare(self)
            loop.train(trained, phase.train, self.folder / stage, self._sheet(trained), trackers)
            if phase is phases[-1] and self.process.is_main_process:
                trained.finish(self)

    def plan(self, stage: str, changes: Mapping[str, Any]) -> list[str]:
        """A dry run of `train`, in lines. It does one step, and writes nothing but what finished stages lack."""
        phases = recipes.phases(self.recipe, stage, changes)
        plans = [plan.plan(self.stage(stage, phase.stage), phase.train, self.folder / stage) for phase in phases]
        return [line for lines in plans for line in lines]

    def stage_class(self, name: str) -> type[Stage]:
        """The class of a stage in this run."""
        return stage_class(name)

    def stage(self, name: str, config: Any) -> Stage:
        """A stage on the components that it trains and needs. config: its own configuration."""
        cls = self.stage_class(name)
        components = self.components(cls.needs, cls.trains)
        stage = cls.of(self, components, config)
        stage.settings = {"start": str(self.start), "online": self.online, **asdict(config), **stage.settings}
        stage.components = components
        return stage

    def _sheet(self, stage: Stage) -> Callable[[], Image] | None:
        """Draws sample sheets of the clips in held-out/; None without them, and for a stage that has no rows."""
        if type(stage).sheet_rows is Stage.sheet_rows or not (self.folder / "held-out").exists():
            return None
        clips = ClipShards(self.folder / "held-out")
        pipe = self.pipeline(stage.components, stage.sampling(self.model))
        return partial(sample_sheet, stage, pipe, [clips[i] for i in range(min(SHEET_CLIPS, len(clips)))])

    def pipeline(self, components: Components, config: presets.ModelConfig) -> Gen3RPipeline:
        """The components as a pipeline that samples as `config` says."""
        sampling = {"scheduler": presets.build_scheduler(config), "defaults": config.defaults}
        pipe = Gen3RPipeline(**{**vars(components), **sampling})
        pipe.mixed_precision = True
        pipe.set_progress_bar_config(disable=True)
        return pipe

    def components(self, finished: Collection[str], trained: Collection[str] = ()) -> Components:
        """Components of these names: `finished` ones with their final weights, `trained` ones to train.

        Raises:
            InputError: a stage that trains a finished component has no checkpoint.
        """
        return weights.assemble(self, finished, trained)

    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The tokenizer that this run learned from the captions in train/, at its first use."""
        with self.process.main_process_first():
            return kept_tokenizer(
                self.folder / "tokenizer", lambda: ClipShards(self.folder / "train").captions, self.config
            )

    def clips(self, frames: int | None = None, count: int | None = None) -> ClipSource:
        """The training clips: those in train/, as `open_clips`; new scenes of the procedural world if `online`, and
        the datasets in train/ beside them, seen by virtual cameras."""
        size = (self.model.num_frames, self.model.height, self.model.width)
        if not self.online:
            return open_clips(self.folder / "train", size, frames, count)
        from gen3r.data.synthetic import OnlineClips

        datasets = sampled_clips(self.folder / "train", size, frames, count or DRAWS, virtual_cameras=True)
        online = OnlineClips(size, self.photos)
        return MixedClips([online, datasets]) if datasets else online

    def held_clips(self, frames: int | None = None, count: int | None = None) -> ClipSource:
        """`clips`, with shards in an accelerator's memory if there is room."""
        clips = self.clips(frames, count)
        if isinstance(clips, ClipShards):
            clips.hold(self.device)
        return clips

    def latents_folder(self, single_frame: bool = False) -> Path:
        """The latent cache of the clips, or of the single-frame clips."""
        return (self.folder / "single_frame" if single_frame else self.folder) / "latents"

    def latents(self, components: Components) -> LatentCache:
        """The latent cache of the clips in train/, or of any clips where that folder is missing.

        Raises:
            InputError: other components or clips made it.
        """
        clips = self.clips(count=DRAWS) if (self.folder / "train").is_dir() else None
        return self._cache(self.latents_folder(), components, self.model.num_frames, clips)

    def single_frame_latents(self, components: Components) -> LatentCache | None:
        """The latent cache of the single-frame clips; None if there is none."""
        folder = self.folder / "single_frame"
        if (self.folder / "stills").is_dir():
            raise InputError(f"{self.folder / 'stills'} has another name now; rename it to {folder.name}")
        if not (folder / "latents").is_dir():
            return None
        clips = single_frame_clips(self.folder / "single_frame" / "train") if (folder / "train").is_dir() else None
        return self._cache(folder / "latents", components, 1, clips)

    def _cache(self, folder: Path, components: Components, frames: int, clips: ClipSource | None) -> LatentCache:
        models = model_hashes(kinds_in(folder), components, self.model.text_length)
        latents = LatentCache(folder, models, (frames, self.model.height, self.model.width), clips)
        latents.hold(self.device)
        return latents

    def encode_latents(
        self, options: EncodeOptions | None = None, single_frame: bool = False, kinds: Sequence[str] = ()
    ) -> None:
        """Fills the latent cache with these kinds (keys of `KINDS`), or with all that the transformer learns from.

        Shards that other models or clips made are replaced.
        """
        kinds = kinds or (HALVES if single_frame else kinds_of(self.transformer_config))
        components = self.components({name for kind in kinds for name in KINDS[kind]})
        for module in components.modules().values():
            module.to(self.device)
        command = ["gen3r", "train", "latents", "--folder", str(self.folder)]
        command += ["--start", str(self.start)] if self.start else []
        command += ["--single-frame"] if single_frame else []
        command += ["--online"] if self.online else []
        command += ["--photos", str(self.photos)] if self.photos else []
        clips = single_frame_clips(self.folder / "single_frame" / "train") if single_frame else self.clips()
        options = replace(options or EncodeOptions(), overwrite=True)
        encode_clips(
            kinds,
            components,
            clips,
            self.latents_folder(single_frame),
            self.model.text_length,
            options,
            shlex.join(command),
        )
