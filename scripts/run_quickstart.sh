#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# From nothing to a trained detector: synthetic data, conversion, training, evaluation, pictures.
#   bash scripts/run_quickstart.sh [FOLDER] [--key value ...]
# FOLDER (default: quickstart/ in the repository) gets data/ and a run folder for each time this
# is started; options go to train.py and eval.py. Makes .venv and installs what is missing when no
# environment is active. PYTHON chooses the interpreter.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/single_device.sh"
source "$REPO_ROOT/scripts/environment.sh"

usage="Usage: bash ${0##*/} [FOLDER](option) [--key value ...]
  FOLDER       where data and results go (default: quickstart/ in the repository)
  --key value  any key of configs/quickstart.yaml, for train.py and eval.py"

# repository_module NAME ARGS...: runs a module; a `src` of the caller's folder must not be taken for
# ours, so paths are absolute.
repository_module() (
    cd -- "$REPO_ROOT"
    exec "$PYTHON" -m "$@"
)

split_arguments "$usage" 0 1 "$@"
config=$REPO_ROOT/configs/quickstart.yaml
work=$(absolute_path "${POSITIONAL[0]-$REPO_ROOT/quickstart}")
mkdir -p -- "$work" 2>/dev/null || wrong_arguments "cannot make the folder '$work'"

ensure_environment "$REPO_ROOT/requirements.txt"
single_device_environment
SECONDS=0
data=$work/data
annotations=$data/annotations/instances_val2017.json
common=(--config_path "$config" --device_target CPU --coco_root "$data" "${OPTIONS[@]}")

echo "== 1/4 synthetic data set"
repository_module src.synthetic --output "$data"

echo "== 2/4 training"
choose_run_folder "$work/train" "${OPTIONS[@]}"
folder=$RUN_FOLDER
run_logged "$folder" "$PYTHON" "$REPO_ROOT/train.py" "${common[@]}" --output_dir "$folder"

echo "== 3/4 evaluation"
checkpoint=$(printf '%s\n' "$folder"/ckpt_0/faster_rcnn-*.ckpt | sort -V | tail -n 1)
[[ -f $checkpoint ]] || die 1 "training left no checkpoint in $folder/ckpt_0"
mkdir -p -- "$folder/eval"
run_logged "$folder/eval" "$PYTHON" "$REPO_ROOT/eval.py" "${common[@]}" \
    --anno_path "$annotations" --checkpoint_path "$checkpoint" --output_dir "$folder/eval" \
    --report True

echo "== 4/4 pictures and report"
repository_module src.visualize --output_dir "$folder" \
    --log "$folder/loss_0.log" --results "$folder/eval/results.json" \
    --anno "$annotations" --image_dir "$data/val2017"
repository_module src report "$folder"

echo "== average precision"
sed -n '/Average Precision/,$p' "$folder/eval/log.txt"
printf '== done in %d min %d s, look at\n' $((SECONDS / 60)) $((SECONDS % 60))
printf '  %s\n' "$folder/report.html" "$folder/loss_curve.png" "$folder/detections.png" "$checkpoint"
