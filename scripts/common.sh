# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Shell functions of the launchers: argument checks, run folders, and running Python with its exit
# code kept. Sourced, never run. Exit code 2 means that the arguments are wrong and nothing was
# started.

unset CDPATH # with it, cd prints where it went
# A closed stream's number would go to the next file that is opened.
[[ -e /dev/fd/0 ]] || exec </dev/null
[[ -e /dev/fd/1 ]] || exec >/dev/null
[[ -e /dev/fd/2 ]] || exec 2>/dev/null
REPO_ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
CHECKPOINT_LIST=ckpt_0/checkpoints.json # of a run folder
BACKBONES=(
    resnet_v1.5_50 resnet_v1_50 resnet_v1_101 resnet_v1_152 resnet_v1_101_caffe
    resnet_v1.5_18 resnet_v1.5_34 resnext_50_32x4d resnext_101_32x8d resnext_101_64x4d wide_resnet_50_2
)

# die CODE MESSAGE: one line on stderr, then leave.
die() {
    printf 'error: %s\n' "$2" >&2 || true
    exit "$1"
}

# say FORMAT ARGS...: a line to the user; one that cannot be written (disk full, nobody there) is
# no reason to end.
say() {
    # shellcheck disable=SC2059
    printf "$@" 2>/dev/null || true
}

# wrong_arguments MESSAGE: what is wrong and where it is told how it is meant, exit code 2.
wrong_arguments() {
    die 2 "$1; see: bash $0 --help"
}

# absolute_path PATH: PATH itself when absolute, else below the caller's folder; need not exist. The
# shell has left ~/ alone in `--key=~/PATH`; without a HOME it would be the root folder.
absolute_path() {
    case $1 in
        /*) printf '%s\n' "$1" ;;
        \~/*)
            [[ ${HOME-} == /?* ]] || die 2 "'$1': HOME names no folder; give the whole path"
            printf '%s/%s\n' "${HOME%/}" "${1#\~/}"
            ;;
        ./*) printf '%s/%s\n' "${PWD%/}" "${1#./}" ;;
        *) printf '%s/%s\n' "${PWD%/}" "$1" ;;
    esac
}

# environment_is_active: a virtual environment, or a conda environment that is not `base`.
environment_is_active() {
    [[ -n ${VIRTUAL_ENV:-} ]] && return 0
    [[ -n ${CONDA_PREFIX:-} && ${CONDA_DEFAULT_ENV:-base} != base ]]
}

# find_python: prints the interpreter to use: $PYTHON, the active environment's `python`, the
# repository's .venv, and at last `python` or `python3` of PATH.
find_python() {
    if [[ -n ${PYTHON:-} ]]; then
        command -v -- "$PYTHON" || die 2 "PYTHON='$PYTHON' is not a program that can be run"
    elif environment_is_active && command -v python; then
        return 0
    elif [[ -x $REPO_ROOT/.venv/bin/python ]]; then
        printf '%s\n' "$REPO_ROOT/.venv/bin/python"
    else
        command -v python || command -v python3 ||
            die 2 "no python found: install Python 3.11 or set PYTHON to an interpreter"
    fi
}

check_backbone() { # BACKBONE
    local name
    for name in "${BACKBONES[@]}"; do
        [[ $1 == "$name" ]] && return 0
    done
    wrong_arguments "unknown BACKBONE '$1', choose one of: ${BACKBONES[*]}"
}

check_file() { # ARGUMENT_NAME PATH
    [[ -f $2 ]] || wrong_arguments "$1 is not a file: '$2'"
    [[ -r $2 ]] || wrong_arguments "$1 cannot be read: '$2'"
}

# has_published_name WORD: names published weights, as in `python -m src weights`, and no file.
has_published_name() {
    [[ ! -e $1 && $1 =~ ^(torchvision|detectron2|mmdetection|mindcv|mindspore)/[A-Za-z0-9_-]+$ ]]
}

check_weights() { # ARGUMENT_NAME PATH_OR_NAME
    has_published_name "$2" || check_file "$1" "$2"
}

weights_path() { # PATH_OR_NAME of check_weights
    if has_published_name "$1"; then printf '%s\n' "$1"; else absolute_path "$1"; fi
}

check_folder() { # ARGUMENT_NAME PATH
    [[ -d $2 ]] || wrong_arguments "$1 is not a folder: '$2'"
}

check_mindrecord_dir() { # PATH; the folder may be missing, the run then makes it
    [[ -d $1 || ! -e $1 ]] || wrong_arguments "MINDRECORD_DIR is not a folder: '$1'"
    absolute_path "$1" >/dev/null || exit
}

# is_device_number WORD: such a thing in the place of MINDRECORD_DIR is the DEVICE_ID that the model
# zoo's scripts have there since r1.9.
is_device_number() {
    [[ $1 =~ ^[0-9]{1,3}$ ]]
}

# take_device_id PLACE: takes a DEVICE_ID out of POSITIONAL[PLACE], where only MINDRECORD_DIR is
# expected, and exports it. One argument more may follow then.
take_device_id() {
    local place=$1 word=${POSITIONAL[$1]-}
    if is_device_number "$word"; then
        export DEVICE_ID=$((10#$word))
        say '%s\n' "note: '$word' is taken as DEVICE_ID, as in the model zoo's scripts since r1.9; \
MINDRECORD_DIR comes after it (a folder of that name: ./$word)" >&2
        POSITIONAL=("${POSITIONAL[@]:0:place}" "${POSITIONAL[@]:place+1}")
    fi
    ((${#POSITIONAL[@]} <= place + 1)) ||
        wrong_arguments "${#POSITIONAL[@]} arguments given, $place to $((place + 1)) expected"
}

# config_for_backbone BACKBONE: the YAML file that belongs to it.
config_for_backbone() {
    case $1 in
        *_101 | *_101_*) printf '%s\n' "$REPO_ROOT/default_config_101.yaml" ;;
        resnet_v1_152) printf '%s\n' "$REPO_ROOT/default_config_152.yaml" ;;
        *) printf '%s\n' "$REPO_ROOT/default_config.yaml" ;;
    esac
}

# option_value KEY ARGS...: prints the last value of `--KEY VALUE` or `--KEY=VALUE`; status 1 when
# absent.
option_value() {
    local key=$1 value found=1
    shift
    while (($#)); do
        case $1 in
            "--$key="*) value=${1#*=} found=0 ;;
            "--$key") value=${2-} found=0 ;;
        esac
        shift
    done
    ((found == 0)) && printf '%s\n' "$value"
    return "$found"
}

# split_arguments USAGE FEWEST MOST ARGS...: fills POSITIONAL with what stands before the first
# `--key` and OPTIONS with the rest, which goes to the Python program as it is.
split_arguments() {
    local usage=$1 fewest=$2 most=$3 word
    shift 3
    POSITIONAL=() OPTIONS=()
    for word in "$@"; do # anywhere: a run that only printed its help would count as finished
        [[ $word != -h && $word != --help ]] || {
            printf '%s\n' "$usage"
            exit 0
        }
    done
    while (($#)) && [[ $1 != --* ]]; do
        [[ $1 != -* ]] || wrong_arguments "'$1' is no argument: options are written --key value"
        POSITIONAL+=("$1")
        shift
    done
    OPTIONS=("$@")
    while (($#)); do
        [[ $1 != --* || $1 == *=* || ($# -gt 1 && $2 != --*) ]] ||
            wrong_arguments "$1 has no value"
        shift
    done
    ((${#POSITIONAL[@]} >= fewest && ${#POSITIONAL[@]} <= most)) ||
        wrong_arguments "${#POSITIONAL[@]} arguments given, $fewest to $most expected"
}

# known_options KEY...: makes sure that OPTIONS has no others.
known_options() {
    local word key
    for word in "${OPTIONS[@]}"; do
        [[ $word == --* ]] || continue
        key=${word#--}
        key=${key%%=*}
        [[ " $* " == *" $key "* ]] || wrong_arguments "--$key is no option here"
    done
}

# check_number ARGUMENT_NAME VALUE: makes sure that it is a whole number from 1 on.
check_number() {
    [[ $2 =~ ^[1-9][0-9]{0,4}$ ]] || wrong_arguments "$1 is not a whole number from 1 on: '$2'"
}

# has_checkpoint FOLDER: whether the run in it lists a checkpoint to go on from.
has_checkpoint() {
    local list=$1/$CHECKPOINT_LIST
    [[ -f $list && -r $list && $(<"$list") == *.ckpt\"* ]]
}

# newest_run FOLDER: which of FOLDER, FOLDER_1, ... has the newest checkpoint goes to RUN_FOLDER;
# status 1 when none has one. There may be gaps in the numbers.
newest_run() {
    local folder newest=''
    for folder in "$1" "$1"_[0-9]*; do
        # Others are the user's copies.
        [[ $folder == "$1" || ${folder#"$1"_} =~ ^[0-9]+$ ]] || continue
        has_checkpoint "$folder" || continue
        [[ -n $newest && ! $folder/$CHECKPOINT_LIST -nt $newest/$CHECKPOINT_LIST ]] ||
            newest=$folder
    done
    [[ -n $newest ]] && RUN_FOLDER=$newest
}

# choose_run_folder NAME OPTIONS...: makes the run's folder in the caller's folder; its path goes to
# RUN_FOLDER. An existing folder is never written over: NAME, NAME_1, NAME_2, ... Only
# `--resume auto` goes on in the one with the newest checkpoint. `--output_dir DIR` names another
# folder. FOLDER_IS_NEW says whether this call made it.
choose_run_folder() {
    local name=$1 folder number=0 parents=()
    shift
    if folder=$(option_value output_dir "$@"); then
        [[ -n $folder ]] || wrong_arguments "--output_dir is empty"
        RUN_FOLDER=$(absolute_path "$folder")
        parents=(-p)
    else
        folder=$(absolute_path "$name")
        if [[ $(option_value resume "$@") == auto ]] && newest_run "$folder"; then
            folder=$RUN_FOLDER
        else
            while [[ -e $folder ]]; do
                number=$((number + 1))
                folder=$(absolute_path "${name}_$number")
            done
        fi
        RUN_FOLDER=$folder
    fi
    FOLDER_IS_NEW=0
    [[ -d $RUN_FOLDER ]] && return
    # Without -p, mkdir fails when another launch was faster.
    mkdir "${parents[@]}" -- "$RUN_FOLDER" 2>/dev/null ||
        die 2 "cannot make the run folder '$RUN_FOLDER'"
    FOLDER_IS_NEW=1
}

# remove_without_results FOLDER: removes a run folder that holds nothing but its log.txt and empty
# folders.
remove_without_results() {
    find "$1" -mindepth 1 -type d -empty -delete
    [[ $(ls -A -- "$1") == log.txt ]] && rm -- "$1/log.txt" && rmdir -- "$1"
}

# run_logged FOLDER COMMAND...: runs COMMAND in the caller's folder; what it prints goes to the
# terminal and to FOLDER/log.txt. SIGINT, SIGTERM and SIGHUP are handed on, so that a stopped run
# saves its checkpoint. When COMMAND was given something wrong (exit code 2), a new run folder
# without results is removed. Returns COMMAND's exit code.
run_logged() {
    local folder=$1 log=$1/log.txt child writer signalled status
    shift
    say 'run folder: %s\nlog: %s\n' "$folder" "$log"
    # The log writer outlives every signal, whoever reads the terminal's end, and a full disk: it
    # ends when the run closes its output.
    exec 3> >(
        trap '' INT TERM HUP PIPE
        tee -a -- "$log" || true
        exec cat >/dev/null # tee gives up when it can write nowhere
    )
    writer=$!
    # In a process group of its own the run gets the terminal's Ctrl-C only once, from here.
    set -m
    FASTERRCNN_LOG=$log "$@" </dev/null >&3 2>&1 3>&- &
    child=$!
    exec 3>&-
    set +m
    trap 'signalled=1; kill -INT "$child" 2>/dev/null' INT
    trap 'signalled=1; kill -TERM "$child" 2>/dev/null' TERM
    trap 'signalled=1; kill -HUP "$child" 2>/dev/null' HUP
    # A trapped signal ends `wait` early: wait again until the run itself is over.
    while :; do
        signalled=0 status=0
        wait "$child" || status=$?
        ((signalled)) || break
    done
    trap - INT TERM HUP
    wait "$writer" 2>/dev/null || true
    trap '' PIPE # whoever read the output may be gone: the exit code counts
    if ((status == 0)); then
        say 'finished, see %s\n' "$folder"
    elif ((status == 2 && FOLDER_IS_NEW)) && [[ $folder == "$RUN_FOLDER" ]] &&
        remove_without_results "$folder"; then
        say 'failed with exit code 2, see above; %s is removed\n' "$folder" >&2
    else
        say 'failed with exit code %d, see %s\n' "$status" "$log" >&2
    fi
    trap - PIPE
    return "$status"
}

# One device, whatever an earlier distributed run left in the shell. DEVICE_ID stays the user's.
single_device_environment() {
    export DEVICE_NUM=1 RANK_SIZE=1 RANK_ID=0 PYTHONUNBUFFERED=1
    [[ -z ${DEVICE_ID:-} || $DEVICE_ID =~ ^[0-9]+$ ]] ||
        die 2 "DEVICE_ID is not a device number: '$DEVICE_ID'"
}

# What the usage texts say of the data.
DATA_USAGE="folder of the data, in a layout of docs/data_formats.md (COCO, VOC, YOLO, LabelMe)"
ANNOTATIONS_USAGE="COCO annotations of the validation images, or: none, for those of COCO_ROOT"

# check_annotations FILE: ends with an error if it is neither a file nor the word none.
check_annotations() {
    [[ $1 == none ]] || check_file VALIDATION_JSON_FILE "$1"
}

# annotations_path FILE: prints what --anno_path gets; nothing for the word none.
annotations_path() {
    [[ $1 == none ]] || absolute_path "$1"
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

# train_command DEVICE_TARGET PRETRAINED_MODEL BACKBONE COCO_ROOT [MINDRECORD_DIR]: checks them and
# puts train.py's options into the caller's `command`.
train_command() {
    [[ $2 == none ]] || check_weights PRETRAINED_MODEL "$2"
    check_backbone "$3"
    check_folder COCO_ROOT "$4"
    [[ -z ${5-} ]] || check_mindrecord_dir "$5"
    command=(--device_target "$1" --backbone "$3" --coco_root "$(absolute_path "$4")")
    [[ -z ${5-} ]] || command+=(--mindrecord_dir "$(absolute_path "$5")")
    if [[ $2 == none ]]; then
        command+=(--pre_trained "") # whatever the config file says
    else
        command+=(--pre_trained "$(weights_path "$2")")
    fi
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

# choose_config BACKBONE: puts the path of the YAML file to use into CONFIG.
choose_config() {
    if CONFIG=$(option_value config_path "${OPTIONS[@]}"); then
        CONFIG=$(absolute_path "$CONFIG")
        [[ -f $CONFIG ]] || die 2 "--config_path is not a file: '$CONFIG'"
    else
        CONFIG=$(config_for_backbone "$1")
    fi
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
