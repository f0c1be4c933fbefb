#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Starts a container with this machine's accelerators and two folders: --help prints the usage.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

usage="Usage: bash ${0##*/} [IMAGE] [DATA_DIR] [MODEL_DIR] [COMMAND ...](option)
  IMAGE      image to start, such as fasterrcnn:20.1.0
  DATA_DIR   folder with the data
  MODEL_DIR  folder for runs and checkpoints; the container starts in it
  COMMAND    what to run (default: bash)
The folders have the same paths inside. Files belong to the caller, not to root. Ascend and NVIDIA
devices are passed on when this machine has them."
case ${1-} in
    -h | --help)
        printf '%s\n' "$usage"
        exit 0
        ;;
esac
(($# >= 3)) || wrong_arguments "$# arguments given, 3 or more expected"
image=$1
[[ -n $image && $image != -* ]] || wrong_arguments "IMAGE is not the name of an image: '$image'"
check_folder DATA_DIR "$2"
check_folder MODEL_DIR "$3"
data=$(cd -- "$2" && pwd)
model=$(cd -- "$3" && pwd)
shift 3
(($#)) || set -- bash
command -v docker >/dev/null || die 2 "docker: no such program in PATH; install Docker"

options=(--rm --ipc=host --user "$(id -u):$(id -g)" --env HOME=/tmp --workdir "$model")
[[ ! -t 0 || ! -t 1 ]] || options+=(--interactive --tty)
# --mount, because a path with a colon would break --volume.
for folder in "$data" "$model"; do
    [[ $folder != *,* ]] || die 2 "docker cannot mount a folder with a comma in its name: '$folder'"
    options+=(--mount "type=bind,source=$folder,target=$folder")
done

root=${HOST_ROOT:-} # of the machine; tests have another
shopt -s nullglob
ascend=("$root"/dev/davinci[0-9]*)
if ((${#ascend[@]})); then
    for device in "${ascend[@]}" "$root"/dev/{davinci_manager,devmm_svm,hisi_hdc}; do
        [[ ! -e $device ]] || options+=(--device "$device:${device#"$root"}")
    done
    options+=(--group-add "$(stat -c %g -- "${ascend[0]}")")
    for path in /usr/local/Ascend/{driver,add-ons} /usr/local/bin/npu-smi /etc/ascend_install.info; do
        [[ ! -e $root$path ]] ||
            options+=(--mount "type=bind,source=$root$path,target=$path,readonly")
    done
fi
[[ ! -e $root/dev/nvidiactl ]] || options+=(--gpus all)

exec docker run "${options[@]}" "$image" "$@"
