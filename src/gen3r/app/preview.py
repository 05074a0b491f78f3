"""What is seen before a scene is there: the first depth with the camera path, and the picture that forms."""

from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from gen3r.cameras.camera import Cameras
from gen3r.cameras.formats import read_cameras, write_cameras
from gen3r.errors import InputError
from gen3r.files import whole_folder
from gen3r.geometry.points import unproject, valid_depth_mask
from gen3r.jobs import Job
from gen3r.media.images import eight_bits
from gen3r.pipeline import Gen3RPipeline
from gen3r.scene import SCENE_FILE, Scene

_PATH = "path.json"


@dataclass(frozen=True)
class Preview:
    """path: the cameras that the scene will have. scene: the photos with the depth that will draw them, each with the
    camera of its frame; None for text alone."""

    path: Cameras
    scene: Scene | None

    def save(self, folder: Path) -> None:
        """Writes a folder that `load` reads, whole."""
        with whole_folder(folder) as partial:
            write_cameras(self.path, partial / _PATH)
            if self.scene is not None:
                self.scene.save(partial / SCENE_FILE)

    @classmethod
    def load(cls, folder: Path) -> "Preview":
        """The preview that `save` wrote."""
        scene = folder / SCENE_FILE
        return cls(read_cameras(folder / _PATH), Scene.load(scene) if scene.exists() else None)


def preview_path(pipe: Gen3RPipeline, job: Job) -> Preview:
    """The cameras of a job's scene, with what is known of the scene before sampling.

    Raises:
        InputError: the model chooses the cameras while it samples.
    """
    request = job.resolve(pipe.defaults)
    views = pipe.prepare_views(request, request.read_images())
    if views.path is None:
        raise InputError("here the model chooses the cameras; there is no path to show")
    [path], [photos] = views.path, views.photos
    if not len(photos):
        return Preview(path, None)
    at = torch.tensor(request.frame_indices)
    cameras = Cameras(path.T_world_camera[at], path.K_px[at], path.height, path.width)
    depth = views.depth[0] if views.depth else _predicted_depth(views.predictions[0].depth[0], cameras)
    depth = depth.float().cpu()
    points = unproject(depth, cameras.T_world_camera, cameras.K_px)
    frames = eight_bits(photos).cpu()
    return Preview(path, Scene(frames, depth, torch.full_like(depth, 2), points, valid_depth_mask(depth), cameras))


def _predicted_depth(depth: Tensor, cameras: Cameras) -> Tensor:
    size = cameras.height, cameras.width
    return torch.nn.functional.interpolate(depth[None].float(), size, mode="nearest-exact")[0]


class FormingPicture:
    """The frames that a generation is heading for, from the latents of two successive steps."""

    def __init__(self) -> None:
        self._last: tuple[float, Tensor] | None = None

    def after_step(self, pipe: Gen3RPipeline, step: int, latents: Tensor) -> Image.Image | None:
        """Three frames side by side: the first, the middle one and the last; None after the first step.

        latents: [1, 16, f, h, 2w]. Along a straight flow, x = latents - sigma (latents - before) / (sigma - before).
        """
        sigma = float(pipe.scheduler.sigmas[step + 1])
        last, self._last = self._last, (sigma, latents)
        if last is None or last[0] == sigma:
            return None
        clean = latents - sigma * (latents - last[1]) / (sigma - last[0])
        appearance = clean.chunk(2, dim=-1)[0]
        chosen = [0, appearance.shape[2] // 2, appearance.shape[2] - 1]
        frames = torch.cat([pipe.decode_frames(appearance[:, :, i : i + 1])[0] for i in dict.fromkeys(chosen)])
        return Image.fromarray(torch.cat(list(eight_bits(frames)), dim=1).cpu().numpy())
