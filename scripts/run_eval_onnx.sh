#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Evaluates an exported ONNX model in ONNX Runtime or OpenVINO: --help prints the usage.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/single_device.sh"

USAGE="Usage: bash ${0##*/} [VALIDATION_JSON_FILE] [ONNX_MODEL] [BACKBONE] [COCO_ROOT] \
[MINDRECORD_DIR](option) [--key value ...]
  VALIDATION_JSON_FILE  $ANNOTATIONS_USAGE
  ONNX_MODEL            file that export.py has written; of several canvases its description
                        (NAME.onnx.json), or any of the files
  BACKBONE              ${BACKBONES[*]}
  COCO_ROOT             $DATA_USAGE
  MINDRECORD_DIR        where converted data is kept (default: the config file's)
  --key value           any key of the config file (--runtime openvino); --config_path FILE takes
                        another file
The run's folder eval_onnx/ (or eval_onnx_1/, ...) is made in the current folder."

split_arguments "$USAGE" 4 5 "$@"
set -- "${POSITIONAL[@]}"
check_annotations "$1"
[[ -f $2.json ]] || check_file ONNX_MODEL "$2"
check_backbone "$3"
check_folder COCO_ROOT "$4"
[[ -z ${5-} ]] || check_mindrecord_dir "$5"

command=(--coco_root "$(absolute_path "$4")")
[[ -z ${5-} ]] || command+=(--mindrecord_dir "$(absolute_path "$5")")
command+=(--anno_path "$(annotations_path "$1")" --file_name "$(absolute_path "$2")")
launch eval_onnx "$3"
