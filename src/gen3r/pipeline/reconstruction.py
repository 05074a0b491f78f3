"""Reconstruction: a scene of given frames, with nothing generated."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from gen3r.errors import InputError
from gen3r.geometry.joining import overlapping_chunks, windows
from gen3r.geometry.points import unproject, valid_depth_mask
from gen3r.geometry.refinement import matched_size, refine
from gen3r.geometry.structure_from_motion import MIN_FRAMES
from gen3r.media.crop import Size
from gen3r.media.images import Images, count_images, eight_bits, first_size, image_batch, image_list
from gen3r.media.sequence import ImageSequence, exif_fov, open_paths
from gen3r.models.geometry import patch_size, resize_maps
from gen3r.pipeline.base import PipelineBase
from gen3r.pipeline.scenes import metres, predicted_scene
from gen3r.request import check_fov, check_patches
from gen3r.scene import Scene, join_scenes

OVERLAP = 4  # of this many parts of a chunk, neighbours share one


class ReconstructionPipeline(PipelineBase):
    """The part of the pipeline that makes scenes of given frames."""

    @torch.no_grad()
    def reconstruct(
        self,
        images: ImageSequence | Images,
        height: int | None = None,
        width: int | None = None,
        feed_forward: bool = False,
        num_frames: int | None = None,
        fov: float | None = None,
    ) -> Scene:
        """The scene of any number of frames, with nothing generated.

        VGGT predicts cameras and depth. More frames than the model's number go through it in chunks of that number,
        which overlap by about a quarter and are joined by similarities (`gen3r.geometry.joining`). Three or more frames
        that can be matched refine the result: structure from motion finds the cameras and the lens, and multi-view
        stereo the depth (`gen3r.geometry.refinement`).

        images: the frames of one clip, in any form that `Request` takes. height, width: multiples of the patch size,
            14. By default they have the shape of the first frame and the model's number of pixels; after
            `load_geometry`, a longer side of at most 518. Frames are resized to cover the size and cropped in the
            centre.
        feed_forward: VGGT's prediction as it is.
        num_frames: of one video or folder, evenly spaced; None means at most the model's number. They are read as they
            are needed.
        fov: horizontal angle of view of the frames in degrees. None: what the EXIF of the first image says, else as
            predicted. Structure from motion starts from it, and finds a better one.

        Raises:
            InputError: the size does not fit, or the images are not those of one clip.
        """
        pictures: Any = open_paths(images)
        in_files = isinstance(pictures, ImageSequence)
        usual = self.defaults["num_frames"]
        if getattr(pictures, "ndim", 0) == 5:
            if len(pictures) != 1:
                raise InputError(f"give the images of one clip, not of {len(pictures)}")
            pictures = pictures[0]
        frames = pictures.meant(usual, num_frames) if in_files else count_images(pictures)
        if not frames:
            raise InputError("give the images of one clip")
        own = pictures.first_size() if in_files else first_size(pictures)
        size = patch_size(*own) if self.geometry is not None else self._own_size(min(frames, usual), *own)
        size = size[0] if height is None else height, size[1] if width is None else width
        check_patches(*size, self.vggt.config.patch_size)
        if fov is None:
            fov = exif_fov(pictures, *size)
        else:
            check_fov(fov)
        chunks = overlapping_chunks(frames, usual, usual // OVERLAP)
        refined = not feed_forward and frames >= MIN_FRAMES
        read_size = matched_size(*size) if refined or frames == 1 else size
        shown = pictures.stream(frames, *read_size) if in_files else image_list(pictures)
        matched: list[Tensor] = []

        def noted() -> Iterator[Any]:
            for picture in shown:
                if refined:
                    matched.append(eight_bits(image_batch([picture], *read_size)[0].cpu())[0])
                yield picture

        scene = self._feed_forward(noted(), chunks, size, fov)
        return self._refined(scene, torch.stack(matched)) if refined else scene

    def _feed_forward(self, pictures: Iterable[Any], chunks: list[range], size: Size, fov: float | None) -> Scene:
        """The scene of images, each chunk of which goes through VGGT at once."""
        scenes = (self._feed_forward_chunk(x, size, fov) for x in windows(pictures, chunks))
        if len(chunks) == 1:
            return next(scenes)
        numbers = self._each(range(len(chunks)), "reconstructing", "chunk")
        scene = join_scenes(chunks, (scene for _, scene in zip(numbers, scenes, strict=True)))
        scene.settings.update(frames=len(scene.frames), chunks=len(chunks))
        return scene

    def _feed_forward_chunk(self, pictures: list[Any], size: Size, fov: float | None) -> Scene:
        frames = image_batch(pictures, *size)[0].to(self._execution_device)
        if self.geometry is None:
            prediction = self.predict_geometry(frames[None])
            if len(frames) == 1:
                photo = image_batch(pictures, *matched_size(*size)).to(frames)
                prediction = self._averaged(prediction, photo)
        else:
            prediction = resize_maps(self.geometry.predict(frames[None]), *size)
        settings = {"task": "reconstruct", "frames": len(frames), "height": size[0], "width": size[1]}
        settings |= metres(prediction, prediction.depth[0])
        scene = predicted_scene(frames, prediction, 0, "", settings, self.vggt.config.pixel_centre, fov)
        self.maybe_free_model_hooks()
        return scene

    def _refined(self, scene: Scene, matched: Tensor) -> Scene:
        """A reconstruction with cameras and depth refined by its frames in `matched_size`, if they can be matched."""
        frames = self._each(range(len(scene.frames)), "refining the depth", "frame")
        refined = refine(matched, scene.images, scene.depth, scene.cameras, frames)
        if refined is None:
            return scene
        depth, cameras = refined
        points = unproject(depth, cameras.T_world_camera, cameras.K_px)
        changes = {"depth": depth, "cameras": cameras, "points": points, "mask": valid_depth_mask(depth)}
        return replace(scene, **changes, settings=scene.settings | {"refined": True})
