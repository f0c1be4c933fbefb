# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Shell functions of the launchers: what their fixed arguments are and mean. Sourced.

source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

BACKBONES=(
    resnet_v1.5_50 resnet_v1_50 resnet_v1_101 resnet_v1_152 resnet_v1_101_caffe
    resnet_v1.5_18 resnet_v1.5_34 resnext_50_32x4d resnext_101_32x8d resnext_101_64x4d wide_resnet_50_2
)
# What the usage texts say of the data.
# shellcheck disable=SC2034 # read by the scripts that source this one
DATA_USAGE="folder of the data, in a layout of docs/data_formats.md (COCO, VOC, YOLO, LabelMe)"
# shellcheck disable=SC2034
ANNOTATIONS_USAGE="COCO annotations of the validation images, or: none, for those of COCO_ROOT"

check_backbone() { # BACKBONE
    local name
    for name in "${BACKBONES[@]}"; do
        [[ $1 == "$name" ]] && return 0
    done
    wrong_arguments "unknown BACKBONE '$1', choose one of: ${BACKBONES[*]}"
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

# check_annotations FILE: ends with an error if it is neither a file nor the word none.
check_annotations() {
    [[ $1 == none ]] || check_file VALIDATION_JSON_FILE "$1"
}

# annotations_path FILE: prints what --anno_path gets; nothing for the word none.
annotations_path() {
    [[ $1 == none ]] || absolute_path "$1"
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

# choose_config BACKBONE: puts the path of the YAML file to use into CONFIG.
choose_config() {
    if CONFIG=$(option_value config_path "${OPTIONS[@]}"); then
        CONFIG=$(absolute_path "$CONFIG")
        [[ -f $CONFIG ]] || die 2 "--config_path is not a file: '$CONFIG'"
    else
        CONFIG=$(config_for_backbone "$1")
    fi
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
