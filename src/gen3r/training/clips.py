"""The training clips in a folder: shards, or datasets from which clips are drawn."""

from pathlib import Path

from gen3r.data.clips import ClipSampler
from gen3r.data.readers import open_mixture
from gen3r.data.records import ClipSource
from gen3r.data.sampled_clips import SampledClips
from gen3r.data.shards import ClipShards
from gen3r.errors import InputError


def open_clips(
    folder: Path, size: tuple[int, int, int], frames: int | None = None, count: int | None = None
) -> ClipSource:
    """The clip shards in a folder, or clips drawn from the datasets there.

    size: frames, height and width of clips from datasets. frames: the least number of frames that shards must have, and
    the number for datasets instead of `size`'s. count: clips to draw from datasets, by default an epoch.

    Raises:
        InputError: there are none, or the shards hold fewer frames.
    """
    if clips := sampled_clips(folder, size, frames, count):
        return clips
    shards = ClipShards(folder)
    if shards.shape[0] < (frames or 0):
        raise InputError(f"the clips in {folder} have {shards.shape[0]} frames; this phase takes {frames}")
    return shards


def sampled_clips(
    folder: Path, size: tuple[int, int, int], frames: int | None, count: int | None, virtual_cameras: bool = False
) -> SampledClips | None:
    """Clips drawn from the datasets in a folder; None where there is no dataset."""
    readers = open_mixture(folder) if folder.is_dir() else {}
    sampler = ClipSampler(frames=frames or size[0], height=size[1], width=size[2], virtual_cameras=virtual_cameras)
    return SampledClips(readers, sampler, count) if readers else None


def single_frame_clips(folder: Path) -> ClipShards:
    """The single-frame clips in a folder.

    Raises:
        InputError: there are none, or they have more frames.
    """
    shards = ClipShards(folder) if any(folder.glob("clips-*.safetensors")) else None
    if shards is None or shards.shape[0] != 1:
        raise InputError(
            f"{folder} holds no single-frame clips; make some in an empty folder of that name with: gen3r data "
            f"synthesize 12288 {folder} --frames 1"
        )
    return shards
