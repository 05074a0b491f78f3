#!/usr/bin/env bash
# Trains VGGT, adapter, text encoder, transformer and student of nano further, in about twelve minutes on one GPU.
# Clips are rendered meanwhile. Each launch of VGGT's training uses the clips that exist when it starts.
# usage: dev/nano_on_one_gpu.sh START FOLDER
#   START: the model to start from. FOLDER: the run's folder; models are written to FOLDER/out.
# SCALE (a factor on all times) and the numbers below can be set in the environment. The defaults suit an H100.
set -euo pipefail
START=$1 FOLDER=$2
SCALE=${SCALE:-1}
END=${END:-750}                      # seconds in all; diffusion takes what the other stages leave
LATENTS=${LATENTS:-6144}             # clips in the latent cache
SINGLE_FRAME=${SINGLE_FRAME:-8192}   # single-frame clips, for text
FRAMES=${FRAMES:-1088}               # frames per step of geometry
ADAPTED=${ADAPTED:-680}              # frames per step of the adapter
CLIPS=${CLIPS:-128}                  # clips per step of diffusion
STUDENT=${STUDENT:-64}               # clips per step of distillation
CORES=$(nproc)              # before the next line, because nproc obeys OMP_NUM_THREADS
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
LOGS=$FOLDER/logs
mkdir -p "$LOGS" "$FOLDER/train" "$FOLDER/single_frame" "$FOLDER/out"

say() { echo "$(date +%T) +${SECONDS}s $*"; }
scaled() { python3 -c "print(round($1 * $SCALE, 3))"; }
shards() { find "$FOLDER/train" -name 'clips-*' | wc -l; }
train() {  # SECONDS STAGE ...: trains for so long, not counting the start, with a complete schedule
  local time=$1 stage=$2
  python3 -m gen3r.cli.main train "$stage" --folder "$FOLDER" --start "$START" --threads 3 \
    --steps 1000000 --minutes "$(scaled "$time / 60")" "${@:3}" >>"$LOGS/$stage.log" 2>&1
  say "$stage: $(tail -n 1 "$FOLDER/$stage/metrics.jsonl")"
}
leg() {  # SECOND: trains VGGT until then, at a constant learning rate
  local end
  end=$(scaled "$1")
  say "geometry on $(shards) shards"
  timeout -s TERM "$(python3 -c "print(max($end - $SECONDS, 10))")" \
    python3 -m gen3r.cli.main train geometry --folder "$FOLDER" --start "$START" --threads 3 \
    --steps 1000000 --batch-size "$FRAMES" >>"$LOGS/geometry.log" 2>&1 || [ -e "$FOLDER/geometry/checkpoint.safetensors" ]
  say "geometry: $(tail -n 1 "$FOLDER/geometry/metrics.jsonl")"
}
latents() {  # KIND PROCESSES ...
  for shard in $(seq 0 $(($2 - 1))); do
    python3 -m gen3r.cli.main train "$1-latents" --folder "$FOLDER" --start "$START" --threads 1 --shard "$shard" \
      --num-shards "$2" "${@:3}" >"$LOGS/$1-$shard-$3.log" 2>&1 &
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

render "$SINGLE_FRAME" "$FOLDER/single_frame/train" --frames 1 --seed 100000
export -f render && export CORES LOGS FOLDER
setsid nice -n 5 bash -c 'render 65536 "$FOLDER/train"' &
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
