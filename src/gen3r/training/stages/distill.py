"""Stage `distill`: a student that goes in a few steps, without guidance, where the trained denoiser goes in many.

Progressive distillation (Salimans & Ho 2022, sec. 3), in one round: a step of the student is to end where several steps
of the teacher end; with the teacher's guidance in the target (Meng et al. 2023, sec. 3), at one weight. For Euler steps
of a flow, the target is a velocity.
"""

from copy import deepcopy
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Tensor

from gen3r.models.conditioning import Conditions, known_latents
from gen3r.training.stages.diffusion import DiffusionStage
from gen3r.training.stages.stage import Batch


class DistillStage(DiffusionStage):
    """Trains the transformer as the student of a frozen copy of itself; the encoders stay as they are.

    scheduler: whose `student_steps` steps the student is to make. fine_steps: the teacher's, equal ones in sigma, for
    each of these; by default it takes 8 in all, as nano does. diffusion: the arguments of `DiffusionStage`.
    guidance: the teacher's, text_guidance: the same for samples without a view, by default no other; no_text: features
        [1, L, D] of the negative prompt, where there is guidance.
    hold_given: latents that given frames fix follow their own way, as in sampling. They do not count in the loss.
    """

    name = "distill"

    def __init__(
        self,
        scheduler: FlowMatchEulerDiscreteScheduler,
        student_steps: int = 4,
        fine_steps: int = 2,
        guidance: float = 1.0,
        text_guidance: float | None = None,
        no_text: Tensor | None = None,
        hold_given: bool = True,
        **diffusion: Any,
    ) -> None:
        super().__init__(**diffusion)
        text_guidance = guidance if text_guidance is None else text_guidance
        assert guidance == text_guidance == 1 or no_text is not None
        for encoder in (self.text_encoder, self.image_encoder):
            if encoder is not None:
                encoder.requires_grad_(False)
        self.teacher = deepcopy(self.transformer).requires_grad_(False)
        self.fine_steps, self.hold_given = fine_steps, hold_given
        self.guidance, self.text_guidance = guidance, text_guidance
        scheduler.set_timesteps(student_steps)
        self.sigmas: Tensor
        self.register_buffer("sigmas", torch.as_tensor(scheduler.sigmas), persistent=False)
        self.no_text: Tensor | None
        self.register_buffer("no_text", no_text, persistent=False)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        told = self.conditions(batch)
        given, known = known_latents(told.control)
        held = known & self.hold_given
        sample = torch.where(held, given, self.sample(batch))
        way = torch.randn_like(sample) - sample
        steps = len(self.sigmas) - 1
        step = (steps * batch["time"]).long().clamp_max(steps - 1)
        start, end = self.sigmas[step], self.sigmas[step + 1]
        z = sample + _wide(start) * way
        guidance = torch.where(batch["views"] == 2, self.text_guidance, self.guidance)
        target = self.target(z, start, end, told, held, way, guidance)
        velocity = self.transformer(
            z, 1000 * start, told.prompt_embeds, told.image_embeds, told.control, told.rays
        ).float()
        error, counts = (velocity - target).square() * ~held, (~held).expand_as(target)
        halves = zip(error.detach().chunk(2, dim=-1), counts.chunk(2, dim=-1), strict=True)
        appearance, geometry = (e.sum() / n.sum().clamp_min(1) for e, n in halves)
        return error.sum() / counts.sum(), {"appearance": appearance, "geometry": geometry}

    @torch.no_grad()
    def target(
        self, z: Tensor, start: Tensor, end: Tensor, told: Conditions, held: Tensor, way: Tensor, guidance: Tensor
    ) -> Tensor:
        """The velocity that carries z to where the teacher's fine steps from sigma `start` to `end` carry it.

        z: [B, 16, f, h, 2w]; start, end, guidance: [B]. Where `held`, the velocity is `way`, noise - sample.
        """
        x, part = z, (end - start) / self.fine_steps
        for n in range(self.fine_steps):
            velocity = torch.where(held, way, self._teacher_velocity(x, start + n * part, told, guidance))
            x = x + _wide(part) * velocity
        return (x - z) / _wide(end - start)

    def _teacher_velocity(self, x: Tensor, sigma: Tensor, told: Conditions, guidance: Tensor) -> Tensor:
        """The teacher's velocity, guided as in sampling: v0 + guidance * (v1 - v0)."""
        velocity = self.teacher(x, 1000 * sigma, told.prompt_embeds, told.image_embeds, told.control, told.rays).float()
        guided = guidance != 1
        if self.no_text is None or not guided.any():
            return velocity
        text = self.no_text.expand(int(guided.sum()), -1, -1)
        inputs = (told.image_embeds[guided], told.control[guided], told.rays[guided])
        without = self.teacher(x[guided], 1000 * sigma[guided], text, *inputs).float()
        velocity[guided] = without + _wide(guidance[guided]) * (velocity[guided] - without)
        return velocity


def _wide(sigma: Tensor) -> Tensor:
    """[B] -> [B, 1, 1, 1, 1]."""
    return sigma[:, None, None, None, None]
