"""diffusers' features for speed and memory, on the tiny pipeline: the table of docs/speed.md, row by row.

`python -m tests.test_acceleration` prints the table.
"""

import multiprocessing
import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers.models._modeling_parallel import ContextParallelConfig, ParallelConfig
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from gen3r.errors import InputError
from gen3r.models.components import MODULES
from gen3r.pipeline import Gen3RPipeline
from gen3r.scene import Scene
from tests.tiny import tiny_pipeline

STEPS, SIZE = 5, 112
WORKS, REFUSED = "works", "refused"


@dataclass(frozen=True)
class Feature:
    """A row of the table: a call, whether it works, and what to know about it."""

    call: str
    state: str
    note: str


CACHE, GROUPS = "`transformer.enable_cache`", "`pipe.enable_group_offload`"
FEATURES = {
    "first_block": Feature(f"{CACHE}: `FirstBlockCacheConfig`", WORKS, "skips all blocks but the first"),
    "mag": Feature(f"{CACHE}: `MagCacheConfig`", WORKS, "skips all blocks; needs ratios, see above"),
    "taylor": Feature(f"{CACHE}: `TaylorSeerCacheConfig`", WORKS, "predicts both attentions of each block"),
    "taylor_lite": Feature("the same with `use_lite_mode=True`", WORKS, "predicts the last layer; takes little memory"),
    "pyramid": Feature(
        f"{CACHE}: `PyramidAttentionBroadcastConfig`", WORKS, "repeats attention; needs the callback above"
    ),
    "faster": Feature(f"{CACHE}: `FasterCacheConfig`", WORKS, "with guidance; needs the callback above"),
    "faster_unguided": Feature("the same without guidance", REFUSED, "works with `is_guidance_distilled=True`"),
    "sea": Feature(f"{CACHE}: `SeaCacheConfig`", WORKS, "skips all blocks"),
    "text": Feature(f"{CACHE}: `TextKVCacheConfig`", REFUSED, "diffusers has it for one other model"),
    "backend": Feature("`set_attention_backend` of `transformer` and `vggt`", WORKS, "all of their attention"),
    "backend_vae": Feature(
        "the same of `vae` and `geo_adapter`", REFUSED, "they have one small attention of torch each"
    ),
    "slicing_attention": Feature("`pipe.enable_attention_slicing`", REFUSED, "for older models; choose a backend"),
    "xformers": Feature(
        "`pipe.enable_xformers_memory_efficient_attention`", REFUSED, "for older models; choose a backend"
    ),
    "fuse": Feature("`transformer.fuse_qkv_projections`", WORKS, "both attentions; unfused weights stay in memory"),
    "compile": Feature("`compile_repeated_blocks` of `transformer` and `vggt`", WORKS, "with `fullgraph=True`"),
    "block_level": Feature(f"{GROUPS} by blocks", WORKS, "every component; to memory or disk"),
    "leaf_level": Feature(f"{GROUPS} by layers", WORKS, "every component; to memory or disk"),
    "model_offload": Feature("`pipe.enable_model_cpu_offload`", WORKS, "one large component at a time"),
    "float8": Feature("`pipe.enable_layerwise_casting`", WORKS, "weights in float8, the text encoder's included"),
    "tiling": Feature("`vae.enable_tiling`", WORKS, "encoding and decoding"),
    "slicing": Feature("`vae.enable_slicing`", WORKS, "encoding and decoding, one sample at a time"),
    "parallel": Feature(
        "`transformer.enable_parallelism`: `ContextParallelConfig`",
        WORKS,
        "of a degree that divides tokens and heads",
    ),
    "parallel_uneven": Feature("the same where it does not divide them", REFUSED, "the error says which numbers do"),
    "parallel_cache": Feature(
        "the same with `FirstBlockCacheConfig`", REFUSED, "devices could leave out different blocks"
    ),
}


def table() -> list[str]:
    """The table of docs/speed.md."""
    return ["| feature | | |", "|---|---|---|", *(f"| {f.call} | {f.state} | {f.note} |" for f in FEATURES.values())]


def test_the_table_is_that_of_the_docs() -> None:
    """Every row has a test of its name here, and stands in docs/speed.md."""
    page = (Path(__file__).parent.parent / "docs" / "speed.md").read_text().splitlines()
    missing = [row for row in table() if row not in page]
    assert not missing, "run python -m tests.test_acceleration"
    assert not [name for name in FEATURES if f"test_{name}" not in globals()]


@pytest.fixture(scope="module")
def shared() -> Gen3RPipeline:
    return tiny_pipeline()


@pytest.fixture
def pipe(shared: Gen3RPipeline) -> Iterator[Gen3RPipeline]:
    """One pipeline for all tests that leave it as it was."""
    yield shared
    if shared.transformer.is_cache_enabled:
        shared.transformer.disable_cache()


def photo() -> Tensor:
    return torch.rand(3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))


def latents_of(pipe: Gen3RPipeline, **options: Any) -> Tensor:
    options = {"num_inference_steps": STEPS, "generator": torch.Generator().manual_seed(0), **options}
    made = pipe(photo(), "a room", "still", output_type="latent", **options)
    assert isinstance(made, Tensor)
    assert made.isfinite().all()
    return made


def scene_of(pipe: Gen3RPipeline) -> Scene:
    """A scene that all components make."""
    [scene] = pipe(photo(), "a room", "still", generator=torch.Generator().manual_seed(0), output_size=0)
    assert isinstance(scene, Scene)
    return scene


def calls(module: nn.Module, work: Callable[[], Any]) -> int:
    """How often a module runs."""
    count = 0

    def note(*_: Any) -> None:
        nonlocal count
        count += 1

    handle = module.register_forward_hook(note)
    work()
    handle.remove()
    return count


def linear(pipe: Gen3RPipeline, attention: str = "attn1") -> nn.Module:
    """A layer in the second block."""
    return pipe.transformer.blocks[1].get_submodule(f"{attention}.to_q")  # pyright: ignore[reportReturnType]


def skips(pipe: Gen3RPipeline, config: Any, runs: int, attention: str = "attn1", **options: Any) -> None:
    """With a cache, the layer runs `runs` times of `STEPS`; in a second clip, too; and not after it is taken off."""
    pipe.transformer.enable_cache(config)
    for _ in range(2):
        assert calls(linear(pipe, attention), lambda: latents_of(pipe, **options)) == runs
    pipe.transformer.disable_cache()
    assert calls(linear(pipe, attention), lambda: latents_of(pipe)) == STEPS


def test_first_block(pipe: Gen3RPipeline) -> None:
    skips(pipe, diffusers.FirstBlockCacheConfig(threshold=1e9), 1)


def test_mag(pipe: Gen3RPipeline) -> None:
    ratios = diffusers.MagCacheConfig(num_inference_steps=STEPS, mag_ratios=[1.0] * STEPS, max_skip_steps=2)
    skips(pipe, ratios, 2)


def test_taylor(pipe: Gen3RPipeline) -> None:
    skips(pipe, diffusers.TaylorSeerCacheConfig(cache_interval=3), 4)
    skips(pipe, diffusers.TaylorSeerCacheConfig(cache_interval=3), 4, "attn2")


def test_taylor_lite(pipe: Gen3RPipeline) -> None:
    skips(pipe, diffusers.TaylorSeerCacheConfig(cache_interval=3, use_lite_mode=True), 4)


@pytest.mark.parametrize("kind", ["spatial", "cross"])
def test_pyramid(pipe: Gen3RPipeline, kind: str) -> None:
    ranges: dict[str, Any] = {
        f"{kind}_attention_block_skip_range": 2,
        f"{kind}_attention_timestep_skip_range": (-1, 1001),
    }
    config = diffusers.PyramidAttentionBroadcastConfig(
        **ranges, current_timestep_callback=lambda: pipe.current_timestep
    )
    skips(pipe, config, 3, "attn1" if kind == "spatial" else "attn2")


def faster(pipe: Gen3RPipeline, **options: Any) -> diffusers.FasterCacheConfig:
    return diffusers.FasterCacheConfig(
        spatial_attention_timestep_skip_range=(-1, 999),
        unconditional_batch_timestep_skip_range=(-1, 1001),
        current_timestep_callback=lambda: pipe.current_timestep,
        **options,
    )


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
def test_faster(pipe: Gen3RPipeline) -> None:
    """The layer runs with both conditions in the first step; later with one, in every second step."""
    sizes: list[int] = []
    handle = linear(pipe).register_forward_hook(lambda _, inputs, __: sizes.append(len(inputs[0])))
    skips(pipe, faster(pipe), 3)
    handle.remove()
    assert sizes[:3] == [2, 1, 1]


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
def test_faster_unguided(pipe: Gen3RPipeline) -> None:
    with pytest.raises(InputError, match="current_timestep_callback"):
        pipe.transformer.enable_cache(diffusers.FasterCacheConfig())
    pipe.transformer.enable_cache(faster(pipe))
    with pytest.raises(InputError, match="is_guidance_distilled"):
        latents_of(pipe, guidance_scale=1.0)
    pipe.transformer.disable_cache()
    skips(pipe, faster(pipe, is_guidance_distilled=True), 3, guidance_scale=1.0)


def test_sea(pipe: Gen3RPipeline) -> None:
    skips(pipe, diffusers.SeaCacheConfig(threshold=1e9, retention_steps=1, cache_end_steps=1), 3)


def test_text(pipe: Gen3RPipeline) -> None:
    with pytest.raises(InputError, match="other transformers"):
        pipe.transformer.enable_cache(diffusers.TextKVCacheConfig())


class Kernels(TorchDispatchMode):
    """Counts the calls of torch's fused attention."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.count += "flash_attention" in str(func)
        return func(*args, **(kwargs or {}))


def test_backend(pipe: Gen3RPipeline) -> None:
    """All attention goes by the backend, and gives the same."""

    shapes = [(1, 16, 2, 4, 8), (1,), (1, 7, 16), (1, 5, 16), (1, 20, 2, 4, 8), (1, 24, 2, 32, 64)]
    inputs = [torch.rand(shape, generator=torch.Generator().manual_seed(0)) for shape in shapes]

    def run() -> tuple[Tensor, Tensor, int]:
        with Kernels() as kernels, torch.no_grad():
            return pipe.transformer(*inputs), pipe.vggt(photo()[None, None]).depth, kernels.count

    *plain, fused = run()
    for module in (pipe.transformer, pipe.vggt):
        module.set_attention_backend("_native_math")
    *other, left = run()
    for module in (pipe.transformer, pipe.vggt):
        module.reset_attention_backend()
    assert all(torch.allclose(x, y, atol=1e-4) for x, y in zip(plain, other, strict=True))
    blocks, trunk, rounds = 2, 1 + 4 + 4, 4
    assert fused == 3 * blocks + trunk + rounds
    assert left == 0


def test_backend_vae(pipe: Gen3RPipeline) -> None:
    for module in (pipe.vae, pipe.geo_adapter):
        with pytest.raises(InputError, match="torch's attention only"):
            module.set_attention_backend("native")


def test_slicing_attention(pipe: Gen3RPipeline) -> None:
    with pytest.raises(InputError, match="set_attention_backend"):
        pipe.enable_attention_slicing()


def test_xformers(pipe: Gen3RPipeline) -> None:
    with pytest.raises(InputError, match="set_attention_backend"):
        pipe.enable_xformers_memory_efficient_attention()


def test_fuse() -> None:
    """The fused weights are those that are used."""
    pipe = tiny_pipeline()
    plain = latents_of(pipe)
    pipe.transformer.fuse_qkv_projections()
    for name, parameter in pipe.transformer.blocks.named_parameters():
        if any(part in name for part in ("to_k.", "to_v.", "add_k_proj.", "add_v_proj.", "attn1.to_q.")):
            parameter.data.fill_(torch.nan)
    assert torch.allclose(latents_of(pipe), plain, atol=1e-4)


def test_compile() -> None:
    pipe = tiny_pipeline()
    plain = latents_of(pipe)
    for module in (pipe.transformer, pipe.vggt):
        module.compile_repeated_blocks(backend="eager", fullgraph=True)
    assert torch.allclose(latents_of(pipe), plain, atol=1e-4)


def same(one: Scene, other: Scene, tolerance: float = 1e-4) -> None:
    assert (one.images - other.images).abs().max() < 0.01
    assert torch.allclose(one.depth, other.depth, rtol=tolerance, atol=tolerance)
    assert torch.allclose(one.points, other.points, rtol=tolerance, atol=tolerance)


@pytest.fixture
def nan_where_empty() -> Iterator[None]:
    """Memory that nobody wrote holds NaN, as weights do here while they are on disk."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def offloads(shared: Gen3RPipeline, folder: Path, **options: Any) -> None:
    pipe = tiny_pipeline()
    pipe.enable_group_offload("cpu", offload_to_disk_path=folder, **options)
    for name in MODULES:
        assert any(p.isnan().any() for p in pipe.components[name].parameters()), name
    same(scene_of(pipe), scene_of(shared))


@pytest.mark.usefixtures("nan_where_empty")
def test_block_level(shared: Gen3RPipeline, tmp_path: Path) -> None:
    offloads(shared, tmp_path, offload_type="block_level", num_blocks_per_group=1)
    for name, group in (("text_encoder", "encoder.block"), ("vggt", "aggregator.frame_blocks")):
        assert len(list((tmp_path / name).iterdir())) > 1, group


@pytest.mark.usefixtures("nan_where_empty")
def test_leaf_level(shared: Gen3RPipeline, tmp_path: Path) -> None:
    offloads(shared, tmp_path, offload_type="leaf_level")


def test_model_offload(shared: Gen3RPipeline) -> None:
    """While text encoder and transformer, the largest, run, no other component is loaded."""
    pipe = tiny_pipeline()
    loaded: set[str] = set()
    beside: dict[str, set[str]] = {name: set() for name in MODULES}
    for name in MODULES:
        _note_moves(pipe.components[name], name, loaded, beside)
    pipe.enable_model_cpu_offload(device="cpu:0")  # tells it from the CPU to which components are taken off
    same(scene_of(pipe), scene_of(shared))
    assert beside["vggt"] | beside["transformer"] | beside["text_encoder"] == set()


def _note_moves(module: nn.Module, name: str, loaded: set[str], beside: dict[str, set[str]]) -> None:
    """Keeps account of which components are on the device as they begin to run."""
    move = module.to

    def to(*args: Any, **kwargs: Any) -> nn.Module:
        if str(args[0]) == "cpu:0":
            beside[name] |= loaded - {name}
            loaded.add(name)
        else:
            loaded.discard(name)
        return move(*args, **kwargs)

    module.to = to  # pyright: ignore[reportAttributeAccessIssue]


def test_float8(shared: Gen3RPipeline) -> None:
    pipe = tiny_pipeline()
    pipe.enable_layerwise_casting()
    for name in MODULES:
        weights = list(pipe.components[name].parameters())
        small = sum(p.numel() for p in weights if p.dtype == torch.float8_e4m3fn)
        assert small > 0, name
    assert (scene_of(pipe).images - scene_of(shared).images).abs().mean() < 0.1


def sizes_of(module: nn.Module, work: Callable[[], Any]) -> set[tuple[int, ...]]:
    """The sizes of a module's inputs: samples, height, width."""
    seen: set[tuple[int, ...]] = set()
    handle = module.register_forward_hook(lambda _, x, __: seen.add((x[0].shape[0], *x[0].shape[-2:])))
    work()
    handle.remove()
    return seen


def vae_round_trip(pipe: Gen3RPipeline) -> Tensor:
    video = torch.rand(2, 3, 5, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return pipe.vae.decode_latents(pipe.vae.encode_video(2 * video - 1).mean)


def test_tiling(pipe: Gen3RPipeline) -> None:
    plain = vae_round_trip(pipe)
    pipe.vae.enable_tiling(32, 32, 24, 24)
    tiled: list[Tensor] = []
    seen = {m: sizes_of(m, lambda: tiled.append(vae_round_trip(pipe))) for m in (pipe.vae.encoder, pipe.vae.decoder)}
    pipe.vae.disable_tiling()
    assert all(max(size[1:]) <= 32 for sizes in seen.values() for size in sizes)
    assert tiled[0].shape == plain.shape
    assert torch.equal(vae_round_trip(pipe), plain)


def test_slicing(pipe: Gen3RPipeline) -> None:
    plain = vae_round_trip(pipe)
    pipe.vae.enable_slicing()
    sliced: list[Tensor] = []
    for module in (pipe.vae.encoder, pipe.vae.decoder):
        assert {size[0] for size in sizes_of(module, lambda: sliced.append(vae_round_trip(pipe)))} == {1}
    pipe.vae.disable_slicing()
    assert torch.allclose(sliced[0], plain, atol=1e-4)


def test_parallel_uneven(pipe: Gen3RPipeline) -> None:
    config = ContextParallelConfig(ulysses_degree=3)
    pipe.transformer._parallel_config = ParallelConfig(context_parallel_config=config)
    with pytest.raises(InputError, match="196 tokens and 2 heads cannot be split over 3 devices; they can over 2"):
        latents_of(pipe)
    pipe.transformer._parallel_config = None


def test_parallel_cache(pipe: Gen3RPipeline) -> None:
    config = ContextParallelConfig(ulysses_degree=2)
    pipe.transformer._parallel_config = ParallelConfig(context_parallel_config=config)
    pipe.transformer.enable_cache(diffusers.FirstBlockCacheConfig(threshold=0.05))
    with pytest.raises(InputError, match=r"call disable_cache\(\)"):
        latents_of(pipe)
    pipe.transformer.disable_cache()
    pipe.transformer._parallel_config = None


def _run_rank(rank: int, port: int, file: Path) -> None:
    """What each of two devices does."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo")
    pipe = tiny_pipeline()
    pipe.transformer.enable_parallelism(config=ContextParallelConfig(ulysses_degree=2))
    latents = latents_of(pipe)
    if rank == 0:
        torch.save(latents, file)
    torch.distributed.destroy_process_group()


@pytest.mark.nightly
def test_parallel(shared: Gen3RPipeline, tmp_path: Path) -> None:
    """Two processes give what one does."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.tiny"])
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    ranks = [context.Process(target=_run_rank, args=(r, port, tmp_path / "latents.pt")) for r in range(2)]
    for process in ranks:
        process.start()
    for process in ranks:
        process.join()
    assert [process.exitcode for process in ranks] == [0, 0]
    assert torch.allclose(torch.load(tmp_path / "latents.pt"), latents_of(shared), atol=1e-5)


if __name__ == "__main__":
    print("\n".join(table()))
