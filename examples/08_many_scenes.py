"""Photos, camera paths and seeds become a table of scenes with scores; the second run makes nothing again.

python examples/08_many_scenes.py [OUT] [SEEDS] [WORKERS]

WORKERS: processes of Ray with a model each; 0, the default, makes all scenes in this process.
"""

import sys
from functools import partial
from importlib.resources import files
from pathlib import Path

import pandas as pd
from PIL import Image

from gen3r import Gen3RPipeline
from gen3r.batch.engines import make_here, make_on_ray, ray_cluster
from gen3r.batch.filters import SCORES, parse_keep
from gen3r.batch.run import open_batch
from gen3r.batch.table import read_table
from gen3r.batch.tasks import check_lines
from gen3r.batch.worker import Settings
from gen3r.checkpoints import model_defaults, resolve_model
from gen3r.checkpoints.identity import files_hash
from gen3r.jobs import Job
from gen3r.request import Request

out = Path(sys.argv[1] if len(sys.argv) > 1 else "outputs/08")
seeds = int(sys.argv[2]) if len(sys.argv) > 2 else 2
workers = int(sys.argv[3]) if len(sys.argv) > 3 else 0

photos = out / "photos"
photos.mkdir(parents=True, exist_ok=True)
for name in ("china", "flower"):
    Image.open(str(files("sklearn") / f"datasets/images/{name}.jpg")).save(photos / f"{name}.png")

# Every photo along every path with every seed: one job each. Each line is checked before anything is made.
common = Job(request=Request(prompt="a place outdoors", output_size=0))
lines = read_table(photos, common, cameras=["dolly_in", "orbit_left"], seeds=seeds)
model = files_hash(resolve_model("nano"))
tasks, wrong = check_lines(lines, model_defaults("nano"), model)
print(f"{len(tasks)} jobs, {len(wrong)} lines that cannot be made")

# A worker loads the model once. Scenes that break a limit are made, too, but kept apart.
settings = Settings(
    load=partial(Gen3RPipeline.from_pretrained, "nano"),
    out=(out / "scenes").resolve(),
    model=model,
    names={"model": "nano"},
    rules=parse_keep("follow>0.5"),
)
with open_batch(settings, tasks, wrong) as batch:
    print(f"{len(batch.missing(tasks))} scenes are missing")
    if workers:
        with ray_cluster(None, workers):
            batch.run(tasks, lambda groups: make_on_ray(groups, settings, workers))
    else:
        batch.run(tasks, lambda groups: make_here(groups, settings))

rows = pd.read_parquet(settings.out / "manifest.parquet")
print(rows[["line", "status", "seconds", *SCORES, "error"]].to_string(float_format="%.3f"))
