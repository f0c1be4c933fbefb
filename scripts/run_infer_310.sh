#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the C++ application, infers and scores: --help prints the usage.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/folders.sh"

USAGE="Usage: bash ${0##*/} [MINDIR_PATH] [DATA_PATH] [ANN_FILE] [DEVICE_ID](option)
  MINDIR_PATH  model that export.py has written (.mindir; with .onnx the CPU is used). Of several
               canvases: its description (NAME.mindir.json), or any of the files
  DATA_PATH    folder with the images
  ANN_FILE     COCO annotations of the images
  DEVICE_ID    number of the Ascend device (default: 0)
  --device_target CPU, --backend NAME, --threads N, --batch_size N, --streams N, --max_image_pixels N
               go to the C++ application (its --help)
In infer_310/ (or infer_310_1/, ...) of the current folder: build.log, infer.log, result_Files/,
time_Result/, results.json and acc.log with the twelve COCO numbers.
LITE_HOME names the folder of MindSpore Lite; without it and for .onnx, libraries come from
.infer_cache/ (scripts/get_infer_dependencies.sh)."

# step NAME LOG COMMAND...: runs COMMAND with its output in LOG; leaves at the first failure, with
# the end of the log.
step() {
    local name=$1 log=$2 status=0
    shift 2
    say '%s, log: %s\n' "$name" "$log"
    # In a process group of its own, to be ended whole: it may hold the device.
    set -m
    "$@" >"$log" 2>&1 </dev/null &
    child=$!
    set +m
    wait "$child" || status=$?
    child=
    ((status == 0)) && return
    tail -n 20 -- "$log" >&2
    die "$status" "$name failed with exit code $status, see $log"
}

# description_of MODEL: the JSON file that describes a model, or all files of several canvases.
description_of() {
    if [[ $1 == *.mindir.json || $1 == *.onnx.json ]]; then
        printf '%s\n' "$1"
    elif [[ ! -f $1.json && $1 =~ ^(.+)_[0-9]+x[0-9]+(\.[a-z]+)$ ]]; then
        printf '%s.json\n' "${BASH_REMATCH[1]}${BASH_REMATCH[2]}"
    else
        printf '%s.json\n' "$1"
    fi
}

# stop NAME NUMBER: hands a signal on to the running step, waits for its end and leaves.
stop() {
    [[ -z $child ]] || { kill "-$1" -- "-$child" && wait "$child"; } 2>/dev/null || true
    exit $((128 + $2))
}

split_arguments "$USAGE" 3 4 "$@"
known_options backend device_target threads batch_size streams max_image_pixels output_dir
set -- "${POSITIONAL[@]}"
[[ -f $1.json ]] || check_file MINDIR_PATH "$1"
check_folder DATA_PATH "$2"
check_file ANN_FILE "$3"
device=${4:-${DEVICE_ID:-0}}
[[ $device =~ ^[0-9]+$ ]] || wrong_arguments "DEVICE_ID is not a device number: '$device'"
description=$(description_of "$(absolute_path "$1")") data=$(absolute_path "$2") annotations=$(absolute_path "$3")
[[ -f $description ]] || die 2 "there is no $description: export.py writes it beside the model"

if ! backend=$(option_value backend "${OPTIONS[@]}"); then
    backend=mindspore_lite
    [[ $description != *.onnx.json ]] || backend=onnxruntime
fi
arguments=("--mindir_path=$description" "--dataset_path=$data" "--device_id=$device"
    "--backend=$backend")
for key in device_target threads batch_size streams max_image_pixels; do
    value=$(option_value "$key" "${OPTIONS[@]}") || continue
    arguments+=("--$key=$value")
done
python=$(find_python) || exit
child=
trap 'stop INT 2' INT
trap 'stop TERM 15' TERM
trap 'stop TERM 1' HUP
choose_run_folder infer_310 "${OPTIONS[@]}"
build=${INFER_BUILD_DIR:-$REPO_ROOT/ascend310_infer/build/$backend}
step "building" "$RUN_FOLDER/build.log" \
    bash "$REPO_ROOT/ascend310_infer/build.sh" "$backend" --build_dir "$build"
step "inferring" "$RUN_FOLDER/infer.log" \
    "$build/main" "${arguments[@]}" "--output_path=$RUN_FOLDER"
step "scoring" "$RUN_FOLDER/acc.log" "$python" "$REPO_ROOT/postprocess.py" \
    --ann_file "$annotations" --result_path "$RUN_FOLDER/result_Files" \
    --output_dir "$RUN_FOLDER"
cat -- "$RUN_FOLDER/time_Result/test_perform_static.txt" "$RUN_FOLDER/acc.log"
say 'finished, see %s\n' "$RUN_FOLDER"
