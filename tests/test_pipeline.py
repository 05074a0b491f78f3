"""The pipeline on tiny models: what it asks of the transformer, how it integrates, and what it makes of the latents."""

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from diffusers import (
    DEISMultistepScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    UniPCMultistepScheduler,
)
from PIL import Image
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from gen3r.cameras.camera import Cameras
from gen3r.cameras.paths import resample, trajectory
from gen3r.errors import InputError
from gen3r.geometry.points import project, unproject, valid_depth_mask
from gen3r.media.images import resize
from gen3r.models.conditioning import Conditions, camera_condition, control_latents
from gen3r.models.encoders import encode_image, encode_text
from gen3r.models.precision import fast_dtype, fast_weights
from gen3r.models.presets import tiny
from gen3r.pipeline import Gen3RPipeline
from gen3r.request import Request, batch_size, check_size
from gen3r.scene import Scene
from tests.tiny import tiny_pipeline

FRAMES, SIZE = 5, 112


@pytest.fixture(scope="module")
def pipe() -> Gen3RPipeline:
    return tiny_pipeline()


def seeded(*seeds: int) -> Any:
    generators = [torch.Generator().manual_seed(s) for s in seeds]
    return generators if len(seeds) > 1 else generators[0]


def pictures(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(seed))


def forward_path(frames: int = FRAMES) -> Cameras:
    T = torch.eye(4).repeat(frames, 1, 1)
    T[:, 2, 3] = torch.linspace(0, 0.4, frames)
    return Cameras.from_fov(T, 1.0, SIZE, SIZE)


def latents_of(
    pipe: Gen3RPipeline, images: Any = None, prompt: Any = "", cameras: Any = None, **options: Any
) -> Tensor:
    options = {"generator": seeded(0), **options}
    made = pipe(images, prompt, cameras, output_type="latent", **options)
    assert isinstance(made, Tensor)
    return made


def control_of(pipe: Gen3RPipeline, images: Tensor) -> Tensor:
    return pipe.prepare_control(Request(images=images).resolve(pipe.defaults), images, None, [])


class TestTasks:
    @pytest.mark.parametrize(("given", "task"), [(0, "text"), (1, "one view"), (2, "two views"), (5, "all views")])
    def test_the_task_follows_from_the_pictures(self, pipe: Gen3RPipeline, given: int, task: str):
        [scene] = pipe(pictures(given), "a room", generator=seeded(0))
        assert isinstance(scene, Scene)
        assert scene.settings["task"] == task
        assert scene.prompt == "a room"
        assert scene.frames.shape == (FRAMES, SIZE, SIZE, 3)
        assert scene.frames.dtype == torch.uint8
        for values in (scene.depth, scene.confidence, scene.points):
            assert values.dtype == torch.float32
            assert values.isfinite().all()
        assert len(scene.cameras) == FRAMES

    @pytest.mark.parametrize(("given", "places"), [(0, []), (1, [0]), (2, [0, 4]), (5, [0, 1, 2, 3, 4])])
    def test_given_frames_stand_at_their_places(self, pipe: Gen3RPipeline, given: int, places: list[int]):
        video, mask = torch.zeros(1, FRAMES, 3, SIZE, SIZE), torch.zeros(1, FRAMES, dtype=torch.bool)
        video[:, places], mask[:, places] = pictures(1, given), True
        control = control_of(pipe, pictures(1, given))
        assert torch.equal(control, control_latents(pipe.vae, video, mask))

    def test_clips_need_not_be_square(self, pipe: Gen3RPipeline):
        with pytest.warns(UserWarning, match="trained on clips of 112 x 112"):
            [scene] = pipe(torch.rand(3, 90, 200), num_frames=9, height=112, width=224, generator=seeded(0))
        assert isinstance(scene, Scene)
        assert scene.depth.shape == (9, 112, 224)
        assert (scene.cameras.height, scene.cameras.width) == (112, 224)

    def test_a_clip_may_be_one_frame(self, pipe: Gen3RPipeline):
        [scene] = pipe(pictures(1), num_frames=1, cameras="still")
        assert isinstance(scene, Scene)
        assert scene.frames.shape[0] == 1

    def test_forms_of_one_picture_give_one_result(self, pipe: Gen3RPipeline):
        pixels = torch.randint(0, 256, (3, 90, 130), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
        pillow = Image.fromarray(pixels.permute(1, 2, 0).numpy())
        assert torch.equal(latents_of(pipe, pixels), latents_of(pipe, [pillow]))

    def test_without_an_image_its_features_are_zeros(self, pipe: Gen3RPipeline):
        nothing, something = pipe.encode_image(pictures(2, 0)), pipe.encode_image(pictures(2, 1))
        assert nothing.shape == something.shape
        assert not nothing.any()
        assert torch.equal(something, encode_image(pipe.image_encoder, pictures(2, 1)[:, 0]))


class TestSampling:
    def test_euler_steps_with_guidance(self, pipe: Gen3RPipeline):
        """z <- z + (s' - s) (v0 + g (v1 - v0)), the sigmas those of the shifted schedule; halves run one by one."""
        image, noise, guidance = pictures(1, 1), torch.randn(1, 16, 2, 14, 28, generator=seeded(3)), 3.0
        text, no_text = (
            encode_text(pipe.tokenizer, pipe.text_encoder, [x], 16, torch.device("cpu")) for x in ("a wall", "bad")
        )
        path = forward_path()
        context, control = pipe.encode_image(image), control_of(pipe, image)
        rays = camera_condition(path.T_world_camera[None], path.K_px[None], SIZE, SIZE)
        sigmas, z = [1.0, 0.6675540805, 0.003988035955, 0.0], noise.clone()
        with torch.no_grad():
            for now, then in zip(sigmas, sigmas[1:], strict=False):
                t = torch.tensor([1000 * now])
                v1, v0 = (pipe.transformer(z, t, x, context, control, rays) for x in (text, no_text))
                z = z + (then - now) * (v0 + guidance * (v1 - v0))
        made = latents_of(
            pipe, image, "a wall", path, negative_prompt="bad", latents=noise, num_inference_steps=3,
            guidance_scale=guidance,
        )  # fmt: skip
        assert torch.allclose(made, z, atol=1e-4)

    def test_the_seed_decides(self, pipe: Gen3RPipeline):
        assert torch.equal(latents_of(pipe, generator=seeded(1)), latents_of(pipe, generator=seeded(1)))
        assert not torch.allclose(latents_of(pipe, generator=seeded(1)), latents_of(pipe, generator=seeded(2)))

    def test_a_sample_does_not_depend_on_its_batch(self, pipe: Gen3RPipeline):
        images, prompts, paths = (
            pictures(3, 1),
            ["one", "two", "three"],
            [forward_path(), forward_path(3), forward_path(1)],
        )
        together = latents_of(pipe, images, prompts, paths, generator=seeded(1, 2, 3))
        for i in range(3):
            alone = latents_of(pipe, images[i : i + 1], prompts[i], paths[i], generator=seeded(1 + i))
            assert torch.allclose(together[i], alone[0], atol=1e-5)

    def test_one_picture_serves_many_prompts(self, pipe: Gen3RPipeline):
        made = pipe(pictures(1), ["one", "two"], cameras="dolly_in", generator=seeded(1, 2))
        assert [scene.prompt for scene in made if isinstance(scene, Scene)] == ["one", "two"]

    def test_latents_go_out_and_in(self, pipe: Gen3RPipeline):
        [scene] = pipe(pictures(1), "a room", generator=seeded(4))
        [again] = pipe.decode(latents_of(pipe, pictures(1), "a room", generator=seeded(4)), ["a room"])
        assert isinstance(scene, Scene)
        assert torch.equal(scene.frames, again.frames)
        assert torch.equal(scene.points, again.points)
        noise = torch.randn(1, 16, 2, 14, 28, generator=seeded(4))
        assert torch.equal(latents_of(pipe, latents=noise), latents_of(pipe, generator=seeded(4)))

    def test_encoders_can_be_skipped(self, pipe: Gen3RPipeline):
        cpu, image = torch.device("cpu"), pictures(1, 1)
        embeds = encode_text(pipe.tokenizer, pipe.text_encoder, ["a wall"], 16, cpu)
        negative = encode_text(pipe.tokenizer, pipe.text_encoder, ["bad detailed"], 16, cpu)
        context = encode_image(pipe.image_encoder, image[:, 0])
        bare = Gen3RPipeline(
            **{**pipe.components, "text_encoder": None, "image_encoder": None, "tokenizer": None},
            defaults=pipe.defaults,
        )
        bare.set_progress_bar_config(disable=True)
        made = latents_of(bare, image, prompt_embeds=embeds, negative_prompt_embeds=negative, image_embeds=context)
        assert torch.allclose(made, latents_of(pipe, image, "a wall"), atol=1e-5)

    def test_the_callback_sees_and_may_change_every_step(self, pipe: Gen3RPipeline):
        seen: list[tuple[int, float]] = []

        def note(pipe: Gen3RPipeline, step: int, t: Tensor, tensors: dict[str, Tensor]) -> None:
            seen.append((step, float(t)))

        def empty(pipe: Gen3RPipeline, step: int, t: Tensor, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            return {"latents": torch.zeros_like(tensors["latents"])}

        latents_of(pipe, num_inference_steps=3, callback_on_step_end=note)
        assert [step for step, _ in seen] == [0, 1, 2]
        assert seen[0][1] == 1000
        assert not latents_of(pipe, callback_on_step_end=empty).any()

    @pytest.mark.parametrize(
        "kind", [UniPCMultistepScheduler, DPMSolverMultistepScheduler, DEISMultistepScheduler], ids=lambda k: k.__name__
    )
    def test_multistep_schedulers_reach_where_many_euler_steps_do(self, kind: Any, pipe: Gen3RPipeline):
        other = Gen3RPipeline(**pipe.components, defaults=pipe.defaults)
        other.set_progress_bar_config(disable=True)
        noise = torch.randn(1, 16, 2, 14, 28, generator=seeded(5))
        exact = latents_of(pipe, latents=noise, num_inference_steps=60, guidance_scale=1.0)
        flow = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 2.0}
        other.scheduler = kind.from_config(pipe.scheduler.config, **flow)
        fast = latents_of(other, latents=noise, num_inference_steps=15, guidance_scale=1.0)
        assert (fast - exact).norm() < 0.15 * (exact - noise).norm()

    def test_schedulers_that_sample_no_flow_are_refused(self, pipe: Gen3RPipeline):
        other = Gen3RPipeline(**pipe.components, defaults=pipe.defaults)
        for scheduler in (DPMSolverMultistepScheduler(), EulerDiscreteScheduler(), UniPCMultistepScheduler()):
            other.scheduler = scheduler
            with pytest.raises(InputError, match="does not sample a flow as it is configured"):
                other()

    @pytest.mark.parametrize(("given", "held"), [(0, 0), (1, 1), (2, 1), (FRAMES, 2)])
    def test_held_latents_are_those_of_the_given_frames(self, pipe: Gen3RPipeline, given: int, held: int):
        frames, half = pictures(1, given), SIZE // 8
        free, kept = (latents_of(pipe, frames, clamp_known=clamp) for clamp in (False, True))
        shown = torch.zeros(1, FRAMES, 3, SIZE, SIZE)
        where = torch.tensor([0, FRAMES - 1] if given == 2 else range(given), dtype=torch.long)
        shown[:, where] = frames
        known = torch.zeros(1, FRAMES, dtype=torch.bool)
        known[:, where] = True
        control = control_latents(pipe.vae, shown, known)
        assert torch.allclose(kept[:, :, :held, :, :half], control[:, :16, :held, :, :half], atol=1e-5)
        assert given == 0 or (free - kept)[:, :, :held, :, :half].abs().amax() > 0.1
        assert torch.equal(free, latents_of(pipe, frames))  # as published, unless the model's defaults say otherwise


class TestEconomy:
    """What is the same in every step, or for several samples, is computed once."""

    def test_cameras_are_embedded_once_a_clip(self, pipe: Gen3RPipeline):
        seen: list[Any] = []
        handle = pipe.transformer.camera_branch.register_forward_hook(lambda *x: seen.append(x))
        latents_of(pipe, pictures(1), "a room", forward_path(), num_inference_steps=3)
        handle.remove()
        assert len(seen) == 1

    def test_texts_are_encoded_in_one_batch_as_long_as_the_longest(self, pipe: Gen3RPipeline):
        seen: list[Any] = []
        handle = pipe.text_encoder.register_forward_hook(
            lambda _, __, kwargs, output: seen.append(kwargs["input_ids"]), with_kwargs=True
        )
        request = Request(prompt="a wall", negative_prompt="bad").resolve(pipe.defaults)
        prompts = ["a wall", "hill", "a wall"]
        embeds, negative = pipe.encode_prompt(request, prompts)
        handle.remove()
        assert [x.shape for x in seen] == [(3, len("a wall") + 1)]
        alone = [encode_text(pipe.tokenizer, pipe.text_encoder, [x], 16, embeds.device)[0] for x in [*prompts, "bad"]]
        assert negative is not None
        assert torch.allclose(embeds, torch.stack(alone[:3]), atol=1e-5)
        assert torch.allclose(negative, alone[3].expand(3, -1, -1), atol=1e-5)

    def test_weights_cast_once_give_the_same(self, pipe: Gen3RPipeline):
        pipe.mixed_precision = True
        inputs = [torch.rand(x, generator=seeded(0)) for x in ((1, 16, 2, 14, 28), (1, 16, 16), (1, 17, 16))]
        control, rays = torch.rand(1, 20, 2, 14, 28), torch.rand(1, 24, 2, 112, 224)
        latents, prompt_embeds, image_embeds = inputs
        pipe.scheduler.set_timesteps(2)
        with torch.no_grad():
            given = pipe._network_inputs(Conditions(prompt_embeds, None, image_embeds, control, rays))
            weights = fast_weights(pipe.transformer, latents.device)
            cast, plain = (pipe._predict_velocity(latents, 0, given, x, 1.0) for x in (weights, {}))
        pipe.mixed_precision = False
        assert torch.equal(cast, plain)
        native = fast_dtype() == torch.bfloat16
        assert bool(weights) == native
        assert all(weight.dtype == torch.bfloat16 for weight in weights.values())


class TestCameras:
    def test_a_path_counts_relative_to_its_first_camera_and_resampled(self, pipe: Gen3RPipeline):
        path, turn = forward_path(3), torch.eye(4)
        turn[:3, :3] = torch.tensor([[0.0, 0, 1], [0, 1, 0], [-1, 0, 0]])
        turn[:3, 3] = torch.tensor([5.0, 6, 7])
        moved = Cameras(turn @ path.T_world_camera, path.K_px, SIZE, SIZE)
        assert torch.allclose(
            latents_of(pipe, cameras=moved), latents_of(pipe, cameras=resample(path, FRAMES)), atol=1e-4
        )

    def test_intrinsics_follow_the_crop_of_the_picture(self, pipe: Gen3RPipeline):
        path = Cameras.from_fov(forward_path().T_world_camera, 1.0, 300, 400)
        request = Request(images=pictures(1, 1), cameras=path).resolve(pipe.defaults)
        [used] = pipe.prepare_cameras(request, pictures(1, 1), []) or []
        assert torch.allclose(used.K_px, path.resize_and_crop(SIZE, SIZE).K_px)

    def test_a_name_takes_lens_and_depth_from_the_picture(self, pipe: Gen3RPipeline):
        seen = pipe.reconstruct(pictures(1))
        depth = float(seen.depth[seen.mask].median())
        expected = trajectory("truck_left", FRAMES, seen.cameras.K_px[0], SIZE, SIZE, depth, 0.7, "ease")
        by_name = latents_of(pipe, pictures(1), cameras="truck_left", extent=0.7, easing="ease")
        assert torch.allclose(by_name, latents_of(pipe, pictures(1), cameras=expected), atol=1e-5)

    def test_a_name_without_a_picture_has_a_usual_lens(self, pipe: Gen3RPipeline):
        [path] = pipe.prepare_cameras(Request(cameras="dolly_in").resolve(pipe.defaults), pictures(1, 0), []) or []
        assert float(path.fov_y[0]) == pytest.approx(math.radians(60))

    def test_two_pictures_may_say_where_the_path_leads(self, pipe: Gen3RPipeline):
        two = pictures(2)
        path = resample(pipe.reconstruct(two, feed_forward=True).cameras, FRAMES)
        assert torch.allclose(latents_of(pipe, two, cameras="between"), latents_of(pipe, two, cameras=path), atol=1e-5)
        with pytest.raises(InputError, match="give two"):
            pipe(pictures(1), cameras="between")

    @pytest.mark.parametrize("views", [0, 1])
    def test_a_path_for_each_sample(self, pipe: Gen3RPipeline, views: int):
        paths = ["dolly_in", forward_path(), "orbit_left"]
        images = pictures(views) if views else None
        together = pipe(images, cameras=paths, generator=seeded(1, 2, 3), output_size=0)
        for i, path in enumerate(paths):
            [alone] = pipe(images, cameras=path, generator=seeded(i + 1), output_size=0)
            assert torch.allclose(together[i].depth, alone.depth, atol=1e-4)
            assert together[i].settings["camera"] == alone.settings["camera"]
        assert [scene.settings["camera"] for scene in together] == ["dolly_in", "given", "orbit_left"]

    @pytest.mark.parametrize(
        ("paths", "message"),
        [
            (["dolly_in", "nowhere"], "nowhere"),
            (["dolly_in", "free"], "leave free out"),
            (["dolly_in", "between"], "give two"),
            (["dolly_in", torch.eye(4)], "not tensor"),
            (torch.eye(4), "Cameras, or a list"),
        ],
    )
    def test_other_lists_are_refused(self, pipe: Gen3RPipeline, paths: Any, message: str):
        with pytest.raises(InputError, match=message):
            pipe(pictures(1), cameras=paths)

    def test_a_model_may_have_a_path_of_its_own_for_a_task(self, pipe: Gen3RPipeline):
        other = Gen3RPipeline(
            **pipe.components, defaults=pipe.defaults | {"cameras": {"one view": "dolly_in", "two views": "between"}}
        )
        other.set_progress_bar_config(disable=True)
        for given, name in ((1, "dolly_in"), (2, "between"), (0, "free"), (FRAMES, "free")):
            [scene] = other(pictures(given), "a room", generator=seeded(0))
            [asked] = pipe(pictures(given), "a room", name, generator=seeded(0))
            assert isinstance(scene, Scene)
            assert isinstance(asked, Scene)
            assert scene.settings["camera"] == asked.settings["camera"] == name
            assert torch.equal(scene.depth, asked.depth)
        assert torch.equal(latents_of(other, pictures(1), cameras="free"), latents_of(pipe, pictures(1)))

    def test_free_cameras_differ_from_still_ones(self, pipe: Gen3RPipeline):
        assert not torch.allclose(
            latents_of(pipe, pictures(1)), latents_of(pipe, pictures(1), cameras="still"), atol=1e-5
        )


def photo(height: int, width: int, seed: int = 0) -> Tensor:
    """A smooth picture, [3, height, width]."""
    coarse = torch.rand(1, 3, 5, 7, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, (height, width), mode="bicubic").clamp(0, 1)[0]


class TestPhotos:
    @pytest.mark.parametrize(
        ("shape", "options", "size"),
        [
            ((150, 200), {}, (150, 200)),
            ((301, 200), {}, (300, 200)),
            ((1500, 2000), {}, (576, 768)),
            ((60, 80), {}, (84, 112)),
            ((150, 200), {"output_size": 120}, (90, 120)),
            ((150, 200), {"output_size": 0}, (SIZE, SIZE)),
            ((150, 200), {"cameras": "free"}, (SIZE, SIZE)),
        ],
    )
    def test_frames_have_the_size_and_shape_of_the_photo(self, pipe: Gen3RPipeline, shape, options, size):
        request = Request(images=photo(*shape), **{"cameras": "dolly_in", **options}).resolve(pipe.defaults)
        assert request.frame_size() == size
        assert request.read_images().shape[-2:] == size

    def test_a_long_photo_is_cut_with_a_warning(self, pipe: Gen3RPipeline):
        with pytest.warns(UserWarning, match="a photo of 400 x 20 is cut at both ends: frames are at most 4 to 1"):
            request = Request(images=photo(20, 400), cameras="dolly_in").resolve(pipe.defaults)
        assert request.frame_size() == (100, 400)

    def test_text_and_whole_clips_keep_the_models_size(self, pipe: Gen3RPipeline):
        assert Request(cameras="still").resolve(pipe.defaults).frame_size() == (SIZE, SIZE)
        with pytest.warns(UserWarning, match="the images say how the camera moves, not still"):
            request = Request(images=[photo(150, 200)] * FRAMES, cameras="still").resolve(pipe.defaults)
        assert request.frame_size() == (SIZE, SIZE)

    def test_a_size_that_cannot_be_rendered_is_refused(self, pipe: Gen3RPipeline):
        with pytest.raises(InputError, match="at least the model's, 112, or 0"):
            pipe(photo(150, 200), cameras="dolly_in", output_size=90)
        with pytest.raises(InputError, match="the output size is 8192 at most, not 100000"):
            pipe(photo(150, 200), cameras="dolly_in", output_size=100_000)

    @pytest.mark.parametrize("given", [1, 2])
    def test_a_scene_shows_the_photos_along_the_path(self, pipe: Gen3RPipeline, given: int):
        photos, path = (
            [photo(120, 160, seed) for seed in range(given)],
            Cameras.from_fov(forward_path().T_world_camera, 1.0, 120, 160),
        )
        [scene] = pipe(photos, cameras=path, generator=seeded(0))
        assert isinstance(scene, Scene)
        assert scene.frames.shape == (FRAMES, 120, 160, 3)
        assert torch.equal(scene.cameras.T_world_camera, path.T_world_camera)
        assert torch.equal(scene.cameras.K_px, path.K_px)
        for i, image in zip((0, FRAMES - 1), photos, strict=False):
            assert (scene.images[i] - image).abs().max() < 0.003
            assert (scene.source[i] == 1 + (i > 0)).all()
        assert torch.equal(scene.mask, valid_depth_mask(scene.depth))

    def test_depth_and_cameras_of_a_scene_agree_with_its_frames(self, pipe: Gen3RPipeline):
        """What the photo shows is where the scene's depth and cameras put it, and that depth is the steering one."""
        [scene] = pipe(photo(120, 160), cameras="truck_left", generator=seeded(0))
        assert isinstance(scene, Scene)
        points = scene.points[-1].flatten(0, 1)
        pixel, z = project(points, scene.cameras.T_world_camera[0], scene.cameras.K_px[0])
        place = (2 * pixel / torch.tensor([160, 120]) - 1).view(1, 120, 160, 2)
        colour, depth = (
            torch.nn.functional.grid_sample(x[None], place, padding_mode="border", align_corners=False)[0]
            for x in (scene.images[0], scene.depth[:1])
        )
        seen = scene.source[-1] == 1
        assert 0.5 < seen.float().mean() < 1
        inner = -torch.nn.functional.max_pool2d(-seen[None].float(), 5, 1, 2)[0] > 0  # away from feathered seams
        assert (colour - scene.images[-1]).abs().amax(0)[inner].quantile(0.95) < 0.03
        assert (depth[0] / z.view(120, 160) - 1).abs()[inner].quantile(0.95) < 0.03

    def test_the_model_sees_the_whole_photo(self, pipe: Gen3RPipeline):
        image = photo(120, 160)
        squeezed = resize(image, SIZE, SIZE)
        path = Cameras.from_fov(forward_path().T_world_camera, 1.0, 120, 160)
        request = Request(images=image, cameras=path).resolve(pipe.defaults)
        depth = pipe.prepare_depth(request, image[None, None], [path], [pipe.predict_photos(image[None])])
        control = pipe.prepare_control(request, squeezed[None, None], [path], depth)
        assert torch.equal(control[:, :16, :1, :, :14], control_of(pipe, squeezed[None, None])[:, :16, :1, :, :14])
        rays = pipe.prepare_rays(request, 1, [path])
        small = path.resize(SIZE, SIZE)
        assert torch.equal(rays, camera_condition(small.T_world_camera[None], small.K_px[None], SIZE, SIZE))

    def test_vggt_sees_the_photos_shape(self, pipe: Gen3RPipeline):
        assert pipe.predict_photos(photo(300, 400)[None]).depth.shape == (1, 1, 98, 126)
        fine = Gen3RPipeline(**pipe.components, defaults=pipe.defaults | {"photo_size": 2 * SIZE})
        assert fine.predict_photos(photo(SIZE, 2 * SIZE)[None]).depth.shape == (1, 1, 154, 322)

    def test_depth_of_a_photo_is_averaged_over_sizes_and_mirror_images(self, pipe: Gen3RPipeline):
        fine = Gen3RPipeline(**pipe.components, defaults=pipe.defaults | {"photo_size": 2 * SIZE})
        image = photo(SIZE, 2 * SIZE)[None]
        averaged, once = fine.predict_photos(image), fine.predict_geometry(resize(image[None], 154, 322))
        looks = [once.depth.log()]
        for turned, (height, width) in ((True, (126, 252)), (False, (98, 210)), (True, (84, 168))):
            small = resize(image[None], height, width)
            depth = fine.predict_geometry(small.flip(-1) if turned else small).depth
            looks.append(F.interpolate(depth.flip(-1) if turned else depth, (154, 322), mode="bilinear").log())
        change = torch.stack([x - x.mean() for x in looks]).mean(0) - looks[0] + looks[0].mean()
        patches = F.avg_pool2d(change, 14)  # move as wholes: edges stay
        expected = looks[0] + F.interpolate(patches, (154, 322), mode="bilinear")
        assert torch.allclose(averaged.depth.log(), expected, atol=1e-4)
        assert torch.equal(averaged.pose_enc, once.pose_enc)
        two = fine.predict_photos(image.expand(2, -1, -1, -1))
        assert torch.equal(
            two.depth, fine.predict_geometry(resize(image[None].expand(1, 2, -1, -1, -1), 154, 322)).depth
        )

    def test_a_scene_of_a_photo_survives_its_file(self, pipe: Gen3RPipeline, tmp_path: Path):
        [scene] = pipe(photo(120, 160), cameras="orbit_left", generator=seeded(0))
        assert isinstance(scene, Scene)
        scene.save(tmp_path / "scene.safetensors")
        again = Scene.load(tmp_path / "scene.safetensors")
        for name in ("frames", "depth", "confidence", "points", "mask", "source"):
            assert torch.equal(getattr(again, name), getattr(scene, name)), name


class TestScenes:
    def test_points_mask_and_cameras_agree(self, pipe: Gen3RPipeline):
        [scene] = pipe(pictures(1), generator=seeded(0))
        assert isinstance(scene, Scene)
        assert torch.equal(scene.cameras.T_world_camera[0], torch.eye(4))
        cameras = scene.cameras
        assert torch.equal(scene.points, unproject(scene.depth, cameras.T_world_camera, cameras.K_px, pixel_centre=0.5))
        assert torch.equal(scene.mask, valid_depth_mask(scene.depth))

    @pytest.mark.parametrize("usual", ["frames", "latents"])
    def test_geometry_comes_from_the_frames_or_the_latents(self, pipe: Gen3RPipeline, usual: str):
        other = Gen3RPipeline(**pipe.components, defaults=pipe.defaults | {"geometry_from": usual})
        other.set_progress_bar_config(disable=True)
        latents = latents_of(other, pictures(1))
        appearance, geometry = latents.chunk(2, dim=-1)
        seen = other.reconstruct(other.decode_frames(appearance)[0], feed_forward=True)
        [again], [decoded], [default] = (
            other.decode(latents, "", geometry_from=x) for x in ("frames", "latents", None)
        )
        assert torch.allclose(again.depth, seen.depth, atol=1e-6)
        assert torch.allclose(again.cameras.T_world_camera, seen.cameras.T_world_camera, atol=1e-6)
        assert torch.allclose(decoded.depth, other.decode_geometry(geometry).depth[0], atol=1e-6)
        assert torch.equal(default.depth, again.depth if usual == "frames" else decoded.depth)
        asked = "latents" if usual == "frames" else "frames"
        [scene] = other(pictures(1), generator=seeded(0), geometry_from=asked)
        assert isinstance(scene, Scene)
        assert torch.equal(scene.depth, decoded.depth if usual == "frames" else again.depth)
        assert torch.equal(scene.frames, decoded.frames)

    def test_all_that_takes_long_is_counted(self, pipe: Gen3RPipeline, monkeypatch: pytest.MonkeyPatch):
        told: list[tuple[str, int, int]] = []
        monkeypatch.setattr(pipe, "on_progress", lambda *now: told.append(now))
        pipe(pictures(1), cameras="still", num_inference_steps=2, generator=seeded(0))
        pipe.reconstruct(torch.full((FRAMES, 3, SIZE, SIZE), 0.5))  # in which nothing can be matched
        doings = list(dict.fromkeys(doing for doing, _, _ in told))
        assert doings == ["predicting the geometry", "decoding", "rendering"]
        for doing, total in (("decoding", 2), ("rendering", FRAMES)):
            assert [now[1:] for now in told if now[0] == doing] == [(i, total) for i in range(1, total + 1)]
        assert not any(module._forward_hooks for module in pipe.vae.modules())

    def test_decoding_drops_no_sample(self, pipe: Gen3RPipeline):
        latents = torch.randn(3, 16, 2, 14, 28, generator=seeded(0))
        assert [scene.prompt for scene in pipe.decode(latents, "a room")] == ["a room"] * 3
        with pytest.raises(InputError, match="2 prompts for 3 samples"):
            pipe.decode(latents, ["one", "two"])
        with pytest.raises(InputError, match="2 prompts for 1 samples"):
            pipe.decode(latents[:1], ["one", "two"])

    def test_reconstruct_is_vggt_alone(self, pipe: Gen3RPipeline):
        images = pictures(3)
        scene = pipe.reconstruct(images, feed_forward=True)
        with torch.no_grad():
            seen = pipe.vggt(images[None])
        assert torch.allclose(scene.depth, seen.depth[0], atol=1e-6)
        assert torch.equal(scene.frames, (images * 255 + 0.5).to(torch.uint8).permute(0, 2, 3, 1))
        assert scene.settings["task"] == "reconstruct"

    def test_reconstruct_takes_other_sizes(self, pipe: Gen3RPipeline):
        assert pipe.reconstruct(torch.rand(1, 3, 126, 154)).depth.shape == (1, 98, 126)  # the shape is kept
        assert pipe.reconstruct(torch.rand(1, 3, 50, 50)).depth.shape == (1, SIZE, SIZE)
        assert pipe.reconstruct([torch.rand(3, 50, 60)], height=56, width=70).depth.shape == (1, 56, 70)

    @pytest.mark.parametrize("size", [(112, 224), (224, 112), (56, 224)], ids=["landscape", "portrait", "panorama"])
    def test_pixels_are_square_in_any_shape(self, pipe: Gen3RPipeline, size: tuple[int, int]):
        scene = pipe.reconstruct(torch.rand(2, 3, *size), *size)
        fx, fy, cx, cy = (scene.cameras.K_px[:, i, j] for i, j in ((0, 0), (1, 1), (0, 2), (1, 2)))
        assert torch.equal(fx, fy)
        assert (cx == size[1] / 2).all()
        assert (cy == size[0] / 2).all()
        torch.testing.assert_close(scene.points[0, ..., 2], scene.depth[0])
        [scene] = pipe(torch.rand(3, *size), num_frames=1, cameras="orbit_left", generator=seeded(0))
        assert torch.equal(scene.cameras.K_px[:, 0, 0], scene.cameras.K_px[:, 1, 1])

    def test_long_work_is_known_before(self, pipe: Gen3RPipeline):
        own = Request(num_inference_steps=4, guidance_scale=2.0).resolve(pipe.defaults)
        work = pipe.denoising_work(own)
        assert pipe.denoising_work(replace(own, num_inference_steps=8)) == 2 * work
        assert pipe.denoising_work(replace(own, guidance_scale=1.0)) == work / 2
        assert 5 * work < pipe.denoising_work(replace(own, width=560)) < 25 * work
        counted = FlopCounterMode(display=False)
        with counted:
            latents_of(pipe, num_inference_steps=4, guidance_scale=2.0)
        assert 0.3 < 2 * work / counted.get_total_flops() < 1
        assert 0 < pipe.denoising_seconds(own) < math.inf
        assert latents_of(pipe).equal(latents_of(pipe))

    def test_a_long_strip_is_cropped(self, pipe: Gen3RPipeline):
        height, width = pipe.reconstruct(torch.rand(1, 3, 2, 3000)).depth.shape[1:]
        assert 2.5 * height < width < 6 * height

    def test_a_scene_survives_its_file(self, pipe: Gen3RPipeline, tmp_path: Path):
        [scene] = pipe(pictures(1), "a room", "dolly_in", generator=seeded(0))
        assert isinstance(scene, Scene)
        scene.save(tmp_path / "scene.safetensors")
        again = Scene.load(tmp_path / "scene.safetensors")
        assert torch.equal(again.points, scene.points)
        assert again.settings == scene.settings


class TestPlaces:
    def test_saving_and_loading_change_nothing(self, pipe: Gen3RPipeline, tmp_path: Path):
        pipe.save_pretrained(tmp_path / "model")
        again = Gen3RPipeline.from_pretrained(tmp_path / "model")
        again.set_progress_bar_config(disable=True)
        assert again.defaults == pipe.defaults
        assert torch.equal(latents_of(again, pictures(1), "a room"), latents_of(pipe, pictures(1), "a room"))

    def test_offloading_changes_nothing(self, pipe: Gen3RPipeline):
        other = tiny_pipeline()
        other.enable_model_cpu_offload(device="cpu")
        for _ in range(2):  # the hooks are still in place after a call
            made = latents_of(other, pictures(1), "a room", "dolly_in")
            assert torch.equal(made, latents_of(pipe, pictures(1), "a room", "dolly_in"))

    def test_bfloat16_weights_give_float32_geometry(self, pipe: Gen3RPipeline):
        half = tiny_pipeline().to(torch.bfloat16)
        noise = torch.randn(1, 16, 2, 14, 28, generator=seeded(0))
        [exact], [rounded] = (p.decode(noise, [""]) for p in (pipe, half))
        assert rounded.depth.dtype == torch.float32
        assert {p.dtype for p in half.vggt.parameters()} == {torch.bfloat16}, "a call must not change the weights"
        assert (rounded.depth - exact.depth).norm() < 0.05 * exact.depth.norm()
        assert latents_of(half, pictures(1), "a room").dtype == torch.float32

    def test_training_can_go_on_after_sampling(self):
        pipe = tiny_pipeline()
        pipe(pictures(1), cameras="dolly_in")
        pipe.vggt.requires_grad_(True)
        pipe.vggt(pictures(1, 1)).depth.sum().backward()
        assert pipe.vggt.aggregator.camera_token.grad is not None


class TestRefusals:
    @pytest.mark.parametrize(
        ("options", "says"),
        [
            ({"num_frames": 6}, "4k \\+ 1 frames, not 6; try 5"),
            ({"num_frames": 0}, "4k \\+ 1"),
            ({"height": 100}, "height must be a multiple of 112"),
            ({"width": 0}, "width must be a multiple of 112"),
            ({"num_inference_steps": 0}, "needs 1 to 1000000 steps"),
            ({"guidance_scale": math.nan}, "guidance must lie"),
            ({"cameras": "dolly_inn"}, "did you mean dolly_in"),
            ({"cameras": "dolly_in", "easing": "bouncy"}, "no easing"),
            ({"cameras": "dolly_in", "extent": math.inf}, "extent"),
            ({"images": torch.rand(3, 3, SIZE, SIZE)}, "3 images: give none"),
            ({"images": torch.rand(2, 3, SIZE, SIZE), "num_frames": 1}, "2 images: give none"),
            ({"images": torch.rand(2, 1, 3, SIZE, SIZE), "prompt": ["a", "b", "c"]}, "2 images for 3 samples"),
            ({"prompt": ["a", "b", "c"], "cameras": [forward_path(), forward_path()]}, "2 camera paths for 3 samples"),
            ({"prompt": ["a", "b", "c"], "generator": seeded(1, 2)}, "2 generators for 3 samples"),
            ({"prompt": []}, "0 prompts"),
            ({"latents": torch.zeros(1, 16, 2, 14, 14)}, "latents have shape"),
            ({"output_type": "video"}, "scene or latent"),
        ],
    )
    def test_before_any_model_runs(self, options: dict[str, Any], says: str):
        bare = tiny_pipeline()
        for name in ("vggt", "vae", "text_encoder", "image_encoder"):
            bare.register_modules(**{name: None})
        with pytest.raises(InputError, match=says):
            bare(**options)

    def test_overflow_says_what_to_do(self, pipe: Gen3RPipeline):
        with pytest.raises(InputError, match="use float32"):
            pipe(latents=torch.full((1, 16, 2, 14, 28), math.inf))

    def test_a_long_prompt_is_cut_with_a_warning(self, pipe: Gen3RPipeline):
        with pytest.warns(UserWarning, match="the prompt has 41 tokens; only the first 16 count"):
            cut = latents_of(pipe, prompt="x" * 40)
        with pytest.warns(UserWarning, match="only the first 16"):
            assert torch.equal(cut, latents_of(pipe, prompt="x" * 60))

    def test_reconstruct_needs_the_pictures_of_one_clip(self, pipe: Gen3RPipeline):
        with pytest.raises(InputError, match="one clip"):
            pipe.reconstruct(torch.rand(2, 1, 3, SIZE, SIZE))
        with pytest.raises(InputError, match="one clip"):
            pipe.reconstruct(None)
        with pytest.raises(InputError, match="multiples of 14"):
            pipe.reconstruct(pictures(1), height=100, width=112)


def test_sizes_that_models_serve_are_accepted():
    check_size(1, 112, 560)
    check_size(49, 560, 112)


def test_a_resolved_request_stays_as_it_is(pipe: Gen3RPipeline):
    request = Request(images=pictures(2), cameras="between", num_inference_steps=7).resolve(pipe.defaults)
    other = {**pipe.defaults, "num_frames": 9, "guidance_scale": 1.0}
    assert vars(request.resolve(other)) == vars(request)
    assert (request.task, request.frame_indices, request.num_inference_steps) == ("two views", [0, FRAMES - 1], 7)


def test_a_request_gives_what_its_fields_give(pipe: Gen3RPipeline):
    request = Request(images=pictures(1), prompt="a room", cameras="dolly_in", extent=0.2)
    by_fields = latents_of(pipe, pictures(1), "a room", "dolly_in", extent=0.2)
    assert torch.equal(latents_of(pipe, request), by_fields)


def test_extent_and_easing_without_a_named_path_are_told():
    with pytest.warns(UserWarning, match="named paths"):
        Request(cameras="free", easing="ease").resolve(tiny().defaults)


def test_batch_size_is_the_one_that_all_agree_on():
    assert batch_size(images=1, prompts=4) == 4
    with pytest.raises(InputError, match="2 image embeds for 4 samples"):
        batch_size(prompts=4, image_embeds=2)
