"""What people write in Python around the pipeline: files, arrays, embeddings, generators, and mistakes."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image
from torch import Tensor

from gen3r.errors import InputError
from gen3r.media.images import image_tensor
from gen3r.media.sequence import exif_fov, open_paths
from gen3r.pipeline import Gen3RPipeline
from gen3r.scene import Scene
from tests.tiny import tiny_pipeline

PIXELS = np.random.default_rng(0).integers(0, 256, (90, 130, 3), np.uint8)


@pytest.fixture(scope="module")
def pipe() -> Gen3RPipeline:
    return tiny_pipeline()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(3):
        Image.fromarray(np.roll(PIXELS, 5 * number, 1)).save(tmp_path / f"{number}.png")
    return tmp_path


def latents_of(pipe: Gen3RPipeline, *args: Any, **options: Any) -> Tensor:
    made = pipe(*args, output_type="latent", **{"generator": torch.Generator().manual_seed(0), **options})
    assert isinstance(made, Tensor)
    return made


def test_a_path_an_array_and_an_image_that_lies_on_its_side(pipe: Gen3RPipeline, folder: Path):
    expected = latents_of(pipe, Image.fromarray(PIXELS))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(PIXELS)).save(folder / "turned.png", exif=exif)
    for image in (folder / "0.png", str(folder / "0.png"), PIXELS, Image.open(folder / "turned.png")):
        assert torch.equal(latents_of(pipe, image), expected)


def with_lens(path: Path, pixels: np.ndarray, millimetres: int, taken: tuple[int, int], orientation: int = 1) -> Path:
    """A photo whose EXIF says a focal length for 35 mm film, and how many pixels (width, height) were taken."""
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    lens = exif.get_ifd(ExifTags.IFD.Exif)
    lens[ExifTags.Base.FocalLengthIn35mmFilm] = millimetres
    lens[ExifTags.Base.ExifImageWidth], lens[ExifTags.Base.ExifImageHeight] = taken
    Image.fromarray(pixels).save(path, exif=exif)
    return path


@pytest.mark.parametrize("orientation", [1, 6])
def test_exif_tells_the_angle_of_view(orientation: int, tmp_path: Path):
    pixels = np.zeros((300, 400, 3), np.uint8)
    photo = with_lens(tmp_path / "photo.jpg", pixels, 26, (4000, 3000), orientation)
    height, width = (30, 40) if orientation == 1 else (40, 30)
    focal = 26 / 43.27 * 50
    with Image.open(photo) as image:
        for images in (open_paths(photo), image, [image]):
            fov = exif_fov(images, height, width)
            assert fov == pytest.approx(2 * np.degrees(np.arctan(width / 2 / focal)))
    assert exif_fov(open_paths(photo), 30, 30) == pytest.approx(2 * np.degrees(np.arctan(15 / focal)))  # cropped


@pytest.mark.parametrize(
    ("shape", "millimetres", "taken"),
    [((300, 400), 0, (4000, 3000)), ((300, 300), 26, (4000, 3000)), ((100, 300), 26, (300, 100))],
    ids=["unknown", "cut", "panorama"],
)
def test_exif_that_tells_no_angle_of_view(
    shape: tuple[int, int], millimetres: int, taken: tuple[int, int], tmp_path: Path
):
    photo = with_lens(tmp_path / "photo.jpg", np.zeros((*shape, 3), np.uint8), millimetres, taken)
    assert exif_fov(open_paths(photo), 100, 100) is None


def test_the_angle_of_view_is_that_of_the_scene(pipe: Gen3RPipeline, tmp_path: Path):
    photo = with_lens(tmp_path / "photo.jpg", PIXELS, 26, (1300, 900))
    focal = 26 / 43.27 * np.hypot(*PIXELS.shape[:2]) / PIXELS.shape[1]  # over the width

    def focals(scene: Scene) -> list[float]:
        return (scene.cameras.K_px[:, 0, 0] / scene.cameras.width).tolist()

    [scene] = pipe(photo, cameras="orbit_left")
    assert focals(scene) == pytest.approx([focal] * 5, rel=1e-5)
    [wide] = pipe(photo, cameras="orbit_left", fov=90)
    assert focals(wide) == pytest.approx([0.5] * 5, rel=1e-5)
    assert focals(pipe.reconstruct(photo, 98, 140)) == pytest.approx([focal], rel=0.02)  # cropped to whole patches
    assert focals(pipe.reconstruct(photo, 98, 140, fov=90)) == pytest.approx([0.5], rel=1e-5)
    with pytest.raises(InputError, match="an angle of view lies between 1 and 170 degrees, not 0"):
        pipe(photo, cameras="orbit_left", fov=0)
    with pytest.warns(UserWarning, match="fov is for named paths; given cameras have their own"):
        pipe(photo, cameras=scene.cameras, fov=60, output_type="latent")


def test_a_photo_given_twice_is_said(pipe: Gen3RPipeline, tmp_path: Path):
    photo = with_lens(tmp_path / "photo.jpg", PIXELS, 26, (1300, 900))
    with pytest.warns(UserWarning, match="both photos are the same; give it once"):
        pipe([photo, photo], cameras="orbit_left", output_type="latent")


def test_a_folder_is_its_images(pipe: Gen3RPipeline, folder: Path):
    with pytest.raises(InputError, match="no file or folder at a red room; text goes into the prompt"):
        pipe("a red room")
    paths = [folder / f"{number}.png" for number in range(3)]
    named = pipe.reconstruct(paths, 56, 84, feed_forward=True)
    assert named.frames.shape[:3] == (3, 56, 84)
    assert torch.equal(pipe.reconstruct(str(folder), 56, 84, feed_forward=True).frames, named.frames)


def test_a_long_clip_is_reconstructed_in_chunks(pipe: Gen3RPipeline, tmp_path: Path):
    for number in range(12):
        Image.fromarray(np.roll(PIXELS, 5 * number, 1)).save(tmp_path / f"{number}.png")
    paths = [tmp_path / f"{number}.png" for number in range(12)]
    assert pipe.reconstruct(tmp_path, 56, 84, feed_forward=True).frames.shape[0] == 5  # the model's number
    joined = pipe.reconstruct(tmp_path, 56, 84, feed_forward=True, num_frames=12)
    first = pipe.reconstruct(paths[:5], 56, 84, feed_forward=True)
    assert joined.frames.shape == (12, 56, 84, 3)
    assert (joined.settings["frames"], joined.settings["chunks"]) == (12, 3)
    assert torch.equal(joined.depth[:4], first.depth[:4])
    assert torch.equal(joined.cameras.T_world_camera[:4], first.cameras.T_world_camera[:4])
    assert torch.equal(joined.frames[-2:], pipe.reconstruct(paths[-2:], 56, 84, feed_forward=True).frames)
    images = torch.stack([image_tensor(path) for path in paths])
    assert torch.equal(pipe.reconstruct(images[None], 56, 84, feed_forward=True).depth, joined.depth)


def test_no_prompt_where_there_are_embeddings(pipe: Gen3RPipeline):
    embeds = torch.zeros(1, 16, pipe.text_encoder.config.d_model)
    options = {"prompt_embeds": embeds, "negative_prompt_embeds": embeds}
    assert torch.equal(latents_of(pipe, prompt=None, **options), latents_of(pipe, prompt="", **options))
    assert torch.equal(latents_of(pipe, prompt=None), latents_of(pipe))


def test_a_generator_draws_on_its_own_device(pipe: Gen3RPipeline):
    shape = (2, 16, 2, 14, 28)
    expected = torch.randn(shape, generator=torch.Generator().manual_seed(3))
    for generator in (torch.Generator().manual_seed(3), [torch.Generator().manual_seed(3)]):
        assert torch.equal(pipe._noise(shape, generator), expected)
    both = pipe._noise(shape, tuple(torch.Generator().manual_seed(s) for s in (3, 4)))
    assert torch.equal(both[1], pipe._noise((1, *shape[1:]), torch.Generator().manual_seed(4))[0])


def test_numbers_of_numpy_and_torch_are_saved_with_the_scene(pipe: Gen3RPipeline, tmp_path: Path):
    numbers = {"num_frames": np.int64(1), "height": np.int32(112), "num_inference_steps": torch.tensor(2)}
    [scene] = pipe(**numbers, guidance_scale=np.float32(1.5))
    scene.save(tmp_path / "scene.safetensors")
    settings = Scene.load(tmp_path / "scene.safetensors").settings
    assert [settings[key] for key in ("frames", "height", "steps", "guidance")] == [1, 112, 2, 1.5]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"generator": 0}, r"torch\.Generator\(\)\.manual_seed\(0\), or a list of them; not 0"),
        ({"generator": np.random.default_rng(0)}, "a generator is torch.Generator"),
        ({"prompt": 7}, "the prompt is a text, or a list with one per sample; not 7"),
        ({"prompt": ["a", None]}, "the prompt is a text"),
        ({"negative_prompt": ["a"]}, "the negative prompt is one text"),
        ({"prompt_embeds": torch.zeros(16, 8)}, r"prompt_embeds is a tensor \[B, L, D\], not \[16, 8\]"),
        ({"prompt_embeds": [0.5]}, r"prompt_embeds is a tensor \[B, L, D\], not \[0\.5\]"),
        ({"num_frames": "17"}, "num_frames is a whole number, not '17'"),
        ({"num_frames": 17.0}, "num_frames is a whole number, not 17.0"),
        ({"num_inference_steps": 2.0}, "num_inference_steps is a whole number, not 2.0"),
        ({"guidance_scale": "2"}, "guidance_scale is a number, not '2'"),
        ({"images": 7}, "images are paths, Pillow images, arrays or tensors, one or a list, not 7"),
        ({"images": np.zeros((640, 3))}, r"not \[640, 3\]"),
    ],
)
def test_mistakes_say_what_to_give(pipe: Gen3RPipeline, options: dict[str, Any], says: str):
    with pytest.raises(InputError, match=says):
        pipe(**options)
