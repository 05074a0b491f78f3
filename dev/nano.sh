#!/usr/bin/env bash
# Trains nano: every stage after the other, on the cores or GPUs of one machine. A run that was stopped goes on.
#
# usage: dev/nano.sh FOLDER [MODEL]
#   FOLDER  the run's folder. FOLDER/train/NAME may hold posed clips of any dataset that gen3r reads.
#   MODEL   the model to start from (default: nano)
#
# PHOTOS     folder of photos: textures of the procedural world, and moving crops for the autoencoder
# PROCESSES  how many train at once (default: one a GPU, or one a core)
# SCALE      factor on the minutes below, which are those of nano's weights on two cores
# CLIPS      in the latent cache
set -euo pipefail
FOLDER=$1 START=${2:-nano}
GPUS=$(python3 -c "import torch; print(torch.cuda.device_count())")
PROCESSES=${PROCESSES:-$([ "$GPUS" -gt 0 ] && echo "$GPUS" || nproc)}
SCALE=${SCALE:-1} CLIPS=${CLIPS:-1024}
export OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false
WHERE=(--folder "$FOLDER" --start "$START" --online ${PHOTOS:+--photos "$PHOTOS"})
mkdir -p "$FOLDER/train" "$FOLDER/logs"

once() {  # NAME COMMAND ...: what has not been done yet
  [ -e "$FOLDER/logs/$1.done" ] && return
  echo "$(date +%T) $1; see $FOLDER/logs/$1.log"
  "${@:2}" >>"$FOLDER/logs/$1.log" 2>&1
  touch "$FOLDER/logs/$1.done"
}
stage() {  # NAME MINUTES OPTION ...
  once "$1" torchrun --nproc_per_node "$PROCESSES" -m gen3r.cli.main train "$1" "${WHERE[@]}" --threads 1 \
    --steps 1000000 --minutes "$(python3 -c "print($2 * $SCALE)")" --schedule cosine "${@:3}"
}
latents() {  # SHARD
  gen3r train latents "${WHERE[@]}" --threads 1 --clips "$CLIPS" --shard "$1" --num-shards "$PROCESSES"
}
all_latents() {
  local shard
  for shard in $(seq 1 $((PROCESSES - 1))); do latents "$shard" & done
  latents 0
  wait
}

stage autoencoder 86 --batch-size 4 --learning-rate 1e-3
stage geometry 180 --batch-size 34 --learning-rate 8e-4
stage adapter 40 --batch-size 40
once latents all_latents
stage diffusion 40 --batch-size 8
stage distill 12 --batch-size 8
once package gen3r train package "${WHERE[@]}" --out "$FOLDER/nano" --max-shard-size 15MB
