#!/usr/bin/env bash
# nano again from weights that are there, in about twelve minutes of one GPU: VGGT, adapter, text, diffusion, distillation.
# Clips are rendered meanwhile; each leg of VGGT's training sees those that are there when it begins.
# usage: dev/nano_on_one_gpu.sh START FOLDER
#   START: model to go on from. FOLDER: as of gen3r train; the packages are written to FOLDER/out.
# SCALE, of all times, and the numbers below may be set in the environment; as they are, they are for an H100.
set -euo pipefail
START=$1 FOLDER=$2
SCALE=${SCALE:-1}
END=${END:-750}             # the second by which all is done: diffusion takes what the other stages leave
LATENTS=${LATENTS:-6144}    # clips that the denoiser sees
STILLS=${STILLS:-8192}      # scenes of one frame, for words
FRAMES=${FRAMES:-1088}      # of a step of VGGT's
ADAPTED=${ADAPTED:-680}     # of the adapter's
CLIPS=${CLIPS:-128}         # of diffusion's
STUDENT=${STUDENT:-64}      # of the distillation's
CORES=$(nproc)              # asked before the next line, which it would heed
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
LOGS=$FOLDER/logs
mkdir -p "$LOGS" "$FOLDER/train" "$FOLDER/single_frame" "$FOLDER/out"

say() { echo "$(date +%T) +${SECONDS}s $*"; }
scaled() { python3 -c "print(round($1 * $SCALE, 3))"; }
shards() { find "$FOLDER/train" -name 'clips-*' | wc -l; }
train() {  # SECONDS STAGE ...: for so long, the start not counted, the learning rate coming to its end
  local time=$1 stage=$2
  python3 -m gen3r.cli.main train "$stage" --folder "$FOLDER" --start "$START" --threads 3 --sheet-every 0 \
    --steps 1000000 --minutes "$(scaled "$time / 60")" "${@:3}" >>"$LOGS/$stage.log" 2>&1
  say "$stage: $(tail -n 1 "$FOLDER/$stage/metrics.jsonl")"
}
leg() {  # SECOND: VGGT until then, at a constant rate
  local end
  end=$(scaled "$1")
  say "geometry on $(shards) shards"
  timeout -s TERM "$(python3 -c "print(max($end - $SECONDS, 10))")" \
    python3 -m gen3r.cli.main train geometry --folder "$FOLDER" --start "$START" --threads 3 --sheet-every 0 \
    --steps 1000000 --batch-size "$FRAMES" >>"$LOGS/geometry.log" 2>&1 || [ -e "$FOLDER/geometry/checkpoint.safetensors" ]
  say "geometry: $(tail -n 1 "$FOLDER/geometry/metrics.jsonl")"
}
latents() {  # KIND PARTS ...
  for part in $(seq 0 $(($2 - 1))); do
    python3 -m gen3r.cli.main train "$1-latents" --folder "$FOLDER" --start "$START" --threads 1 --shard "$part" \
      --num-shards "$2" "${@:3}" >"$LOGS/$1-$part-$3.log" 2>&1 &
  done
}
package() {  # NAME ...
  python3 -m gen3r.cli.main train package --folder "$FOLDER" --start "$START" --out "$FOLDER/out/$1" "${@:2}" \
    >"$LOGS/package-$1.log" 2>&1
  say "package $1"
}

render() {  # N FOLDER ...
  python3 -m gen3r.cli.main data synthesize "$@" --workers $((CORES > 4 ? CORES - 3 : 1)) >>"$LOGS/clips.log" 2>&1
}

render "$STILLS" "$FOLDER/single_frame/train" --frames 1 --seed 100000
export -f render && export CORES LOGS FOLDER
setsid nice -n 5 bash -c 'render 65536 "$FOLDER/train" --skies 0.5' &
RENDERING=$!
trap 'kill -KILL -- -$RENDERING 2>/dev/null || true' EXIT
until [ "$(shards)" -ge $((LATENTS < 768 ? LATENTS / 64 : 12)) ]; do sleep 1; done
leg 95
leg 190
train 140 geometry --batch-size "$FRAMES" &
GEOMETRY=$!
sleep "$(scaled 60)"
WHOLE=$((64 * ($(shards) - CORES)))  # of the last shards, some are still being rendered
LATENTS=$((LATENTS < WHOLE ? LATENTS : WHOLE))
latents appearance 2 --clips "$LATENTS"
wait $GEOMETRY
say "geometry is done; $(shards) shards"
train 45 adapter --batch-size "$ADAPTED" --learning-rate 1e-3
kill -KILL -- -$RENDERING || true
package base  # measures the adapter's latents, which those that follow ask for
latents appearance 1 --single-frame
latents geometry 1 --single-frame
latents geometry 2 --clips "$LATENTS"
latents warped $((CORES > 4 ? CORES - 3 : 1)) --clips "$LATENTS"
for job in $(jobs -p); do [ "$job" = $RENDERING ] || wait "$job"; done
say "latents: $(find "$FOLDER/latents" -name '*.safetensors' | wc -l) files"
train 30 text --batch-size 256
train "$(python3 -c "print(max($END - $SECONDS / $SCALE - 100, 30))")" diffusion --batch-size "$CLIPS"
package teacher --teacher &
train 55 distill --batch-size "$STUDENT" --learning-rate 3e-4
package student
wait
say "done"
