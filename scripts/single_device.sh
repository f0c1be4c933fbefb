# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Shell functions of the launchers of one process: training and evaluation on one device. Sourced.

source "$(dirname -- "${BASH_SOURCE[0]}")/arguments.sh"
source "$(dirname -- "${BASH_SOURCE[0]}")/folders.sh"

# One device, whatever an earlier distributed run left in the shell. DEVICE_ID stays the user's.
single_device_environment() {
    export DEVICE_NUM=1 RANK_SIZE=1 RANK_ID=0 PYTHONUNBUFFERED=1
    [[ -z ${DEVICE_ID:-} || $DEVICE_ID =~ ^[0-9]+$ ]] ||
        die 2 "DEVICE_ID is not a device number: '$DEVICE_ID'"
}

# standalone_train DEVICE_TARGET ARGS...: what run_standalone_train_{ascend,gpu,cpu}.sh do.
standalone_train() {
    local target=$1 usage python command
    usage="Usage: bash ${0##*/} [PRETRAINED_MODEL] [BACKBONE] [COCO_ROOT] \
[MINDRECORD_DIR](option) [--key value ...]
  PRETRAINED_MODEL  backbone or detector checkpoint, or: none
  BACKBONE          ${BACKBONES[*]}
  COCO_ROOT         $DATA_USAGE
  MINDRECORD_DIR    where converted data is kept (default: the config file's)
  --key value       any key of the config file; --config_path FILE takes another file
The run's folder train/ (or train_1/, ...) is made in the current folder."
    shift
    split_arguments "$usage" 3 5 "$@"
    take_device_id 3
    train_command "$target" "${POSITIONAL[@]}"
    launch train "${POSITIONAL[1]}"
}

# standalone_eval DEVICE_TARGET ARGS...: what run_eval_{ascend,gpu,cpu}.sh do.
standalone_eval() {
    local target=$1 usage python command
    usage="Usage: bash ${0##*/} [VALIDATION_JSON_FILE] [CHECKPOINT_PATH] [BACKBONE] [COCO_ROOT] \
[MINDRECORD_DIR](option) [--key value ...]
  VALIDATION_JSON_FILE  $ANNOTATIONS_USAGE
  CHECKPOINT_PATH       checkpoint of a trained detector
  BACKBONE              ${BACKBONES[*]}
  COCO_ROOT             $DATA_USAGE
  MINDRECORD_DIR        where converted data is kept (default: the config file's)
  --key value           any key of the config file; --config_path FILE takes another file
The run's folder eval/ (or eval_1/, ...) is made in the current folder."
    shift
    split_arguments "$usage" 4 6 "$@"
    take_device_id 4
    set -- "${POSITIONAL[@]}"
    check_annotations "$1"
    check_weights CHECKPOINT_PATH "$2"
    check_backbone "$3"
    check_folder COCO_ROOT "$4"
    [[ -z ${5-} ]] || check_mindrecord_dir "$5"

    command=(--device_target "$target" --backbone "$3" --coco_root "$(absolute_path "$4")")
    [[ -z ${5-} ]] || command+=(--mindrecord_dir "$(absolute_path "$5")")
    command+=(--anno_path "$(annotations_path "$1")" --checkpoint_path "$(weights_path "$2")")
    launch eval "$3"
}

# launch NAME BACKBONE: runs NAME.py with the caller's `command` and OPTIONS, in a fresh run folder.
launch() {
    choose_config "$2"
    python=$(find_python) || exit
    single_device_environment
    choose_run_folder "$1" "${OPTIONS[@]}"
    run_logged "$RUN_FOLDER" "$python" "$REPO_ROOT/$1.py" \
        --config_path "$CONFIG" "${command[@]}" "${OPTIONS[@]}" --output_dir "$RUN_FOLDER"
}
