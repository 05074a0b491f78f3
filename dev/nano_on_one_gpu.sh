#!/usr/bin/env bash
# nano again from weights that are there: every stage for some minutes of one GPU, the clips rendered meanwhile.
# usage: dev/nano_on_one_gpu.sh START FOLDER [CLIPS [SCALE]]
#   START: model to go on from, not a distilled one. FOLDER: as of gen3r train. SCALE: of all times (default: 1).
set -euo pipefail
START=$1 FOLDER=$2 CLIPS=${3:-3072} SCALE=${4:-1}
CORES=$(nproc)  # asked before the next line, which it would heed
export OMP_NUM_THREADS=1
LOGS=$FOLDER/logs
mkdir -p "$LOGS"

say() { echo "$(date +%T) $*"; }
gen3r() { python3 -m gen3r.cli.main "$@"; }
seconds() { python3 -c "print(max($1 * $SCALE, 12))"; }
minutes() { python3 -c "print($1 * $SCALE)"; }
train() {  # STAGE MINUTES BATCH ...
  local stage=$1 time=$2 batch=$3
  shift 3
  gen3r train "$stage" --folder "$FOLDER" --start "$START" --threads 1 --steps 1000000 --minutes "$(minutes "$time")" \
    --batch-size "$batch" "$@" >>"$LOGS/$stage.log" 2>&1
  say "$stage: $(tail -n 1 "$FOLDER/$stage/metrics.jsonl")"
}
latents() {  # KIND PARTS
  for part in $(seq 0 $(($2 - 1))); do
    gen3r train "$1-latents" --folder "$FOLDER" --start "$START" --threads 1 --part "$part" --parts "$2" \
      >"$LOGS/$1-$part.log" 2>&1 &
  done
}
mkdir -p "$FOLDER/train"
shards() { find "$FOLDER/train" -name 'clips-*' | wc -l; }

gen3r data synthesize "$CLIPS" "$FOLDER/train" --workers $((CORES > 4 ? CORES - 2 : 1)) >"$LOGS/clips.log" 2>&1 &
CLIPS_JOB=$!
until [ "$(shards)" -ge $((CLIPS < 768 ? CLIPS / 64 : 12)) ]; do sleep 1; done
say "clips: $(shards) shards"
# A stage sees the clips that are there when it begins.
train autoencoder 1.8 64 &
AUTOENCODER=$!
sleep "$(seconds 22)"
say "clips: $(shards) shards"
train geometry 2.1 1088
wait $AUTOENCODER
train adapter 0.8 680 --learning-rate 1e-3
wait $CLIPS_JOB
say "clips: $(shards) shards"
latents appearance 2
latents geometry 2
latents rendered 8
wait
say "latents: $(find "$FOLDER/latents" -name '*.safetensors' | wc -l) files"
train diffusion 1.8 64
gen3r train package --folder "$FOLDER" --start "$START" --teacher --out "$FOLDER/teacher"
train distill 0.6 64 --learning-rate 3e-4
gen3r train package --folder "$FOLDER" --start "$START" --out "$FOLDER/student"
say "done"
