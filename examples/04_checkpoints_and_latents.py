"""Weights in and out, latents in and out: saving a model, and splitting a generation into its steps.

python examples/04_checkpoints_and_latents.py [OUT]
"""

import sys
from importlib.resources import files
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from gen3r import Gen3RPipeline, save_scene
from gen3r.media.images import read_image

out = Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/04")
out.mkdir(parents=True, exist_ok=True)

# 1. Any model folder loads from its path. Saving writes a pipeline folder, and never overwrites one.
pipeline = Gen3RPipeline.from_pretrained("nano")
for name, module in pipeline.components.items():
    if isinstance(module, torch.nn.Module):
        print(f"{name:14} {sum(p.numel() for p in module.parameters()) / 1e6:6.2f} M parameters")
if not (out / "pipeline").exists():
    pipeline.save_pretrained(out / "pipeline")
saved = Gen3RPipeline.from_pretrained(out / "pipeline")

# 2. Latents out: Z = [A; G], appearance on the left and geometry on the right. Nothing is decoded yet.
photo = read_image(str(files("sklearn") / "datasets/images/china.jpg"))
noise = torch.randn(1, 16, 5, 14, 28, generator=torch.Generator().manual_seed(0))
latents = pipeline(photo, cameras="dolly_in", latents=noise, output_type="latent")
assert isinstance(latents, torch.Tensor)
save_file({"latents": latents.contiguous()}, out / "latents.safetensors")
appearance, geometry = latents.chunk(2, dim=-1)
print("latents", list(latents.shape), f"appearance {appearance.std():.2f}, geometry {geometry.std():.2f}")

# 3. The same noise gives the same latents, also from the saved weights. Only models of the package multiply in bfloat16
# by themselves (`mixed_precision`), where the processor does that fast.
saved.mixed_precision = pipeline.mixed_precision
same = saved(photo, cameras="dolly_in", latents=noise, output_type="latent")
print("largest difference:", float((same - latents).abs().max()))

# 4. Latents in: decode them alone, later or elsewhere.
[scene] = pipeline.decode(load_file(out / "latents.safetensors")["latents"])
save_scene(scene, out / "scene", overwrite=True)
print(f"see {out}/scene/preview.png")
