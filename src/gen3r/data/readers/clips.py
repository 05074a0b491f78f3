"""Clips of the procedural world, as `gen3r data synthesize` writes them."""

from collections.abc import Iterator

from gen3r.data.readers.base import Reader
from gen3r.data.records import ClipRecord
from gen3r.data.shards import ClipShards


class Clips(Reader):
    """Clip shards (`gen3r.data.shards`).

    Tree: clips-000000.safetensors, ..., up to 64 clips each, with frames, depth, T_world_camera, K_px, and captions in
    the header. Poses: camera-to-world, OpenCV axes, metres, relative to the first frame. Depth: half precision, metres,
    0 in the sky and where something moves.

    Licence: your own, and that of photos that were given for textures.
    """

    name = "clips"
    licence = "your own, and that of photos that were given for textures"
    layout = "clips-000000.safetensors"

    def find_scenes(self) -> Iterator[str]:
        """A shard's name and the number of a clip in it."""
        for path in self.root.glob("clips-*.safetensors"):
            with self.tolerant():
                yield from (f"{path.stem}/{number:02d}" for number in range(len(ClipShards(path))))

    def read_scene(self, scene: str) -> ClipRecord:
        shard, number = self.name_parts(scene, 2)
        path = self.root / f"{shard}.safetensors"
        if not number.isdecimal() or not path.is_file() or int(number) >= len(self._shard(path.name)):
            raise self.unknown(scene)
        clip = self._shard(path.name)[int(number)]
        return ClipRecord(
            dataset=self.name,
            scene=scene,
            cameras=clip.cameras,
            read_frame=clip.frames.__getitem__,
            read_depth=clip.depth.__getitem__ if clip.depth.any() else None,
            metric=True,
            captions=(clip.caption,) if clip.caption else (),
        )

    def _shard(self, name: str) -> ClipShards:
        """An open shard; opening reads its header only."""
        if name not in self.cached:
            self.cached = {name: ClipShards(self.root / name)}
        return self.cached[name]
