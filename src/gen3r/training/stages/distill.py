"""Stage `distill`: a student that samples in a few steps and without guidance, as its teacher does in many.

One round of progressive distillation (Salimans & Ho 2022, sec. 3): one step of the student shall end where several
steps of the teacher end. The teacher's guidance is part of the target (Meng et al. 2023, sec. 3). For Euler
steps of a flow, the target is a velocity.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor

from gen3r.errors import InputError
from gen3r.models.components import Components
from gen3r.models.conditioning import Conditions, add_noise, known_latents, velocity_target
from gen3r.models.encoders import encode_text
from gen3r.models.presets import ModelConfig, build_scheduler, distilled, sampling_of
from gen3r.models.transformer import Gen3RTransformer
from gen3r.training.latent_cache.shards import LatentCache, joint_latents
from gen3r.training.stages.adapters import add_adapters, write_adapters
from gen3r.training.stages.config import DistillConfig
from gen3r.training.stages.diffusion import NO_VIEWS, DiffusionStage, predict_velocity
from gen3r.training.stages.stage import Batch

if TYPE_CHECKING:
    from gen3r.training.run import Run


class DistillStage(DiffusionStage):
    """Trains the transformer as the student of a frozen copy of itself. The encoders are frozen.

    With a rank, only adapters are trained; without them, the transformer is its own teacher, which saves the copy.
    model: its distilled form gives the student's steps; guidance scale and negative prompt are the teacher's. With
    `clamp_known`, known latents move straight from noise to their values, as in sampling, and do not count in the loss.
    """

    name = "distill"
    trains = ()  # the student stands beside the transformer of `diffusion`
    needs = (*DiffusionStage.needs, *DiffusionStage.trains)
    other_base = (
        "was distilled from another transformer; remove it and run gen3r train distill again, or package with --teacher"
    )
    config: DistillConfig

    def __init__(
        self,
        components: Components,
        latents: LatentCache,
        model: ModelConfig,
        config: DistillConfig,
        single_frame_latents: LatentCache | None = None,
    ) -> None:
        super().__init__(components, latents, model, config, single_frame_latents)
        self.teacher = None if config.rank else deepcopy(self.transformer).requires_grad_(False)
        student = distilled(model)
        scheduler = build_scheduler(student)
        scheduler.set_timesteps(student.num_inference_steps)
        self.sigmas: Tensor
        self.register_buffer("sigmas", torch.as_tensor(scheduler.sigmas), persistent=False)
        with torch.no_grad():
            embeds = encode_text(
                components.tokenizer, components.text_encoder, [model.negative_prompt], model.text_length,
                torch.device("cpu"),
            )  # fmt: skip
        self.negative_prompt_embeds: Tensor
        self.register_buffer("negative_prompt_embeds", embeds.float(), persistent=False)

    @classmethod
    def of(cls, run: "Run", components: Components, config: DistillConfig) -> Self:
        """As `DiffusionStage.of`; refuses a teacher that is distilled itself."""
        if run.sampler.scheduler.config.get("shift_terminal"):
            raise InputError(f"{run.start} is distilled already; start from the model that it was distilled from")
        return super().of(run, components, config)

    @classmethod
    def sampling(cls, model: ModelConfig) -> ModelConfig:
        """The student's few steps."""
        return distilled(model)

    def choose_trained(self) -> None:
        """Selects the transformer, or adapters for it."""
        self.freeze_encoders()
        if self.config.rank:
            add_adapters(self.transformer, self.config.rank)
        else:
            self.transformer.requires_grad_(True)

    def finish(self, run: "Run") -> None:
        """Writes the averaged adapters, if any, with the student's way of sampling."""
        if self.config.rank:
            write_adapters(run.folder / self.name, self.transformer, sampling_of(distilled(self.model)))

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        conditions = self.conditions(batch)
        known_values, known = known_latents(conditions.control)
        clamped = known & self.model.clamp_known
        sample = torch.where(clamped, known_values, joint_latents(batch))
        noise = torch.randn_like(sample)
        steps = len(self.sigmas) - 1
        step = (steps * batch["time"]).long().clamp_max(steps - 1)
        start, end = self.sigmas[step], self.sigmas[step + 1]
        x_t = add_noise(sample, noise, start)
        guidance = self.teacher_guidance(batch["views"])
        target = self.target(x_t, start, end, conditions, clamped, velocity_target(sample, noise), guidance)
        velocity = predict_velocity(self.transformer, x_t, start, conditions)
        error, counts = (velocity - target).square() * ~clamped, (~clamped).expand_as(target)
        halves = zip(error.detach().chunk(2, dim=-1), counts.chunk(2, dim=-1), strict=True)
        appearance, geometry = (e.sum() / n.sum().clamp_min(1) for e, n in halves)
        return error.sum() / counts.sum(), {"appearance": appearance, "geometry": geometry}

    def teacher_guidance(self, views: Tensor) -> Tensor:
        """The teacher's guidance scales [B] for the drawn views [B]."""
        guidance, text_guidance = self.model.guidance_scale, self.config.text_guidance
        return torch.where(views == NO_VIEWS, guidance if text_guidance is None else text_guidance, guidance)

    @torch.no_grad()
    def target(
        self,
        latents: Tensor,
        start: Tensor,
        end: Tensor,
        conditions: Conditions,
        clamped: Tensor,
        known_velocity: Tensor,
        guidance: Tensor,
    ) -> Tensor:
        """The velocity that carries latents to where the teacher's steps from sigma `start` to `end` carry them.

        latents: [B, 16, f, h, 2w]. start, end, guidance: [B]. Where `clamped`, the velocity is `known_velocity`.
        """
        x, length = latents, (end - start) / self.config.fine_steps
        for n in range(self.config.fine_steps):
            velocity = self._teacher_velocity(x, start + n * length, conditions, guidance)
            x = x + _wide(length) * torch.where(clamped, known_velocity, velocity)
        return (x - latents) / _wide(end - start)

    def _teacher_velocity(self, x: Tensor, sigma: Tensor, conditions: Conditions, guidance: Tensor) -> Tensor:
        """The teacher's velocity, guided as in sampling: v0 + guidance * (v1 - v0)."""
        with self._as_teacher() as teacher:
            velocity = predict_velocity(teacher, x, sigma, conditions)
            guided = guidance != 1
            if not guided.any():
                return velocity
            c = conditions
            embeds = self.negative_prompt_embeds.expand(int(guided.sum()), -1, -1)
            negative = Conditions(embeds, None, c.image_embeds[guided], c.control[guided], c.rays[guided])
            without = predict_velocity(teacher, x[guided], sigma[guided], negative)
            velocity[guided] = without + _wide(guidance[guided]) * (velocity[guided] - without)
            return velocity

    @contextmanager
    def _as_teacher(self) -> Iterator[Gen3RTransformer]:
        """The teacher: the frozen copy, or the transformer without its adapters."""
        if self.teacher is not None:
            yield self.teacher
            return
        self.transformer.disable_adapters()
        try:
            yield self.transformer
        finally:
            self.transformer.enable_adapters()


def _wide(sigma: Tensor) -> Tensor:
    """[B] -> [B, 1, 1, 1, 1]."""
    return sigma[:, None, None, None, None]
