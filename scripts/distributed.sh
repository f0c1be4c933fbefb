# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Shell functions of the launchers of several processes. Sourced.

source "$(dirname -- "${BASH_SOURCE[0]}")/arguments.sh"
source "$(dirname -- "${BASH_SOURCE[0]}")/folders.sh"

# What every usage text ends with.
DISTRIBUTED_USAGE="  PRETRAINED_MODEL  backbone or detector checkpoint, or: none
  BACKBONE          ${BACKBONES[*]}
  COCO_ROOT         $DATA_USAGE
  MINDRECORD_DIR    where converted data is kept (default: the config file's)
  --key value       any key of the config file; --config_path FILE takes another file
The run's folder train/ (or train_1/, ...) is made in the current folder; process <i> has
train_parallel<i>/ with its log.txt in it. Several servers: see docs/distributed.md."

# distributed_usage FIRST_ARGUMENT WHAT_IT_IS: prints the usage.
distributed_usage() {
    printf 'Usage: bash %s [%s] [PRETRAINED_MODEL] [BACKBONE] [COCO_ROOT] [MINDRECORD_DIR](option)' \
        "${0##*/}" "$1"
    printf ' [--key value ...]\n  %s\n%s\n' "$2" "$DISTRIBUTED_USAGE"
}

# distributed_train HOW DEVICE_TARGET ARGUMENT_NAME WHAT_IT_IS ARGS...: trains in several processes.
# HOW: `msrun` or `mpirun`, whose first argument is a number of processes; `table`, where it is a
# rank table or the word `none` for msrun with LOCAL_WORKER_NUM (or WORKER_NUM, or 8) processes.
distributed_train() {
    local how=$1 target=$2 name=$3 usage python command how_options
    usage=$(distributed_usage "$3" "$4")
    shift 4
    split_arguments "$usage" 4 5 "$@"
    set -- "${POSITIONAL[@]}"
    if [[ $how == table && $1 == none ]]; then
        how=msrun
        set -- "${LOCAL_WORKER_NUM:-${WORKER_NUM:-8}}" "${@:2}"
        name=LOCAL_WORKER_NUM
    fi
    if [[ $how == table ]]; then
        check_file "$name" "$1"
        how_options=(--table "$(absolute_path "$1")")
    else
        check_number "$name" "$1"
        how_options=(--processes "$1")
        [[ $target != CPU ]] || share_processors "$1"
    fi
    ! is_device_number "${5-}" || wrong_arguments "MINDRECORD_DIR is '$5', a device number: every \
process has its own device, leave it out (a folder of that name: ./$5)"
    train_command "$target" "${@:2}"
    choose_config "$3"
    python=$(find_python) || exit
    python=$(absolute_path "$python")
    export PYTHONUNBUFFERED=1
    choose_run_folder train "${OPTIONS[@]}"
    PYTHONPATH=$REPO_ROOT${PYTHONPATH:+:$PYTHONPATH} run_logged "$RUN_FOLDER" \
        "$python" "$REPO_ROOT/scripts/launch.py" "$how" "$RUN_FOLDER" "${how_options[@]}" -- \
        "$python" "$REPO_ROOT/train.py" --config_path "$CONFIG" "${command[@]}" "${OPTIONS[@]}" \
        --output_dir "$RUN_FOLDER"
}

# share_processors NUMBER: threads of NUMBER processes that do not get into each other's way, unless
# the user has decided.
share_processors() {
    local threads
    threads=$(($(nproc) / $1))
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((threads > 0 ? threads : 1))}
}
