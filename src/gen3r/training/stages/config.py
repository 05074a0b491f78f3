"""The settings of the stages. The command line reads the fields that are options."""

from dataclasses import dataclass

from gen3r.options import option


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """The settings of a stage that has none."""


@dataclass(frozen=True, kw_only=True)
class AutoencoderConfig(StageConfig):
    """frames: the lengths of clips, drawn with equal probability. photo_share: of clips made of photographs."""

    frames: tuple[int, ...] = (9, 9, 9, 17)
    photo_share: float = 0.4
    decoder_only: bool = option(
        False, "train the decoder alone; latents, and the models that were trained on them, stay valid"
    )
    keep_latents: bool = option(
        False, "keep the latents of the model --start near; a transformer that was trained on them stays valid"
    )


@dataclass(frozen=True, kw_only=True)
class GeometryConfig(StageConfig):
    """frames: the lengths of clips, drawn with equal probability.

    sizes: heights and widths of images, drawn with equal probability. fine_sizes: those of clips of at most four
        frames, where a photo's depth wants more pixels. Clips in shards keep their own.
    """

    frames: tuple[int, ...] = (1, 2, 4, 8, 17, 17)
    sizes: tuple[tuple[int, int], ...] = ((112, 112), (98, 126), (84, 140), (126, 98))
    fine_sizes: tuple[tuple[int, int], ...] = ((112, 112), (168, 168), (168, 224), (224, 168), (140, 224))


@dataclass(frozen=True, kw_only=True)
class AdapterConfig(StageConfig):
    """frames: the lengths of clips, drawn with equal probability.

    depth_weight, translation_weight: weights of these losses.
    as_published: the paper's losses, and clips without augmentation (Gen3R, sec. 3.2).
    """

    frames: tuple[int, ...] = (5, 9, 17)
    depth_weight: float = 2.0
    translation_weight: float = 0.5
    as_published: bool = False
    keep_latents: bool = option(
        False,
        "keep the geometry latents of the model --start although VGGT has changed; a transformer that was trained on "
        "them stays valid",
    )


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig(StageConfig):
    """drop_text, drop_cameras: shares of samples without text and without cameras.

    all_views, no_views: shares of samples with all frames and with none as conditioning frames. Samples without
        conditioning frames have timesteps of density 3t^2, because text matters mostly at high noise.
    single_frame: share of micro-batches of single-frame clips, which are conditioned on text alone.
    """

    drop_text: float = 0.1
    drop_cameras: float = 0.25
    all_views: float = 0.05
    no_views: float = 0.2
    single_frame: float = 0.0


@dataclass(frozen=True, kw_only=True)
class DistillConfig(DiffusionConfig):
    """fine_steps: the teacher's steps, of equal length in sigma, for each step of the student.

    text_guidance: the teacher's guidance scale for samples without conditioning frames; None: the model's own.
    """

    fine_steps: int = 2
    text_guidance: float | None = None
    rank: int | None = option(
        None, "train LoRA adapters of this rank, not the whole transformer; needs gen3r[lora]", positive=True
    )


@dataclass(frozen=True, kw_only=True)
class LoraConfig(DiffusionConfig):
    """The settings of the adapters of low rank."""

    rank: int = option(16, "rank of the adapters (default: 16)", positive=True)


CONFIGS = {
    "autoencoder": AutoencoderConfig,
    "geometry": GeometryConfig,
    "adapter": AdapterConfig,
    "text": StageConfig,
    "diffusion": DiffusionConfig,
    "distill": DistillConfig,
    "lora": LoraConfig,
}
