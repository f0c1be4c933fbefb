#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Fetches what ascend310_infer is built from into .infer_cache/ of the repository, without
# installing anything and without root: --help prints the usage.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

CACHE=$REPO_ROOT/.infer_cache
USAGE="Usage: bash ${0##*/} [opencv] [onnxruntime] [mindspore_lite]
Fetches libraries with apt-get and pip, unpacks them into .infer_cache/, and builds nothing. Without
arguments: opencv and onnxruntime. What is there already is left as it is.
  opencv          OpenCV and nlohmann-json from the machine's own Debian or Ubuntu (60 packages)
  onnxruntime     library: the PyPI package; headers: Debian's libonnxruntime-dev
  mindspore_lite  headers and library of the PyPI package mindspore-lite 2.0.0 (x86-64, 170 MB)
On a machine with an Ascend 310, set LITE_HOME to its own MindSpore Lite instead of the last one."
ORT_HEADERS_RELEASE=trixie # the first Debian release that has libonnxruntime-dev
LITE_VERSION=2.0.0

# with_apt NAME SED_SCRIPT COMMAND...: runs apt-get COMMAND with the machine's own package sources,
# changed by SED_SCRIPT, and with lists and archives of its own in the cache.
with_apt() {
    local state=$CACHE/apt/$1 script=$2 file
    shift 2
    if [[ ! -d $state ]]; then
        mkdir -p -- "$state.part/sources" "$state.part/lists/partial" \
            "$state.part/archives/partial"
        for file in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
            [[ -f $file ]] || continue
            sed -- "$script" "$file" >"$state.part/sources/${file##*/}"
        done
        [[ ! -f $state.part/sources/sources.list ]] ||
            mv -- "$state.part/sources/sources.list" "$state.part/sources/machine.list"
        mv -- "$state.part" "$state"
    fi
    apt-get -qq -o Dir::Etc::SourceList=/dev/null -o Dir::Etc::SourceParts="$state/sources" \
        -o Dir::State::Lists="$state/lists" -o Dir::Cache="$state" \
        -o APT::Sandbox::User="$(id -un)" "$@"
}

# unpack_packages FOLDER ARCHIVE...: their files below FOLDER.
unpack_packages() {
    local folder=$1 archive
    shift
    for archive in "$@"; do
        dpkg-deb -x "$archive" "$folder" || die 1 "cannot unpack $archive"
    done
}

# pip_package FOLDER REQUIREMENT OPTIONS...: unpacks a wheel into FOLDER.
pip_package() {
    local folder=$1 requirement=$2 python
    shift 2
    python=$(find_python) || exit
    mkdir -p -- "$folder/wheel"
    "$python" -m pip download --quiet --disable-pip-version-check --no-deps \
        --only-binary=:all: --dest "$folder/wheel" "$@" "$requirement" ||
        die 1 "pip cannot download $requirement"
    "$python" -m zipfile -e "$folder"/wheel/*.whl "$folder" || die 1 "cannot unpack $requirement"
    rm -r -- "$folder/wheel"
}

fetch_opencv() { # FOLDER
    local packages=(libopencv-imgcodecs-dev libopencv-imgproc-dev libopencv-core-dev
        nlohmann-json3-dev) plan names=()
    command -v apt-get >/dev/null || die 1 "no apt-get: install OpenCV's headers by hand"
    with_apt machine '' update || die 1 "apt-get update failed"
    # What is missing on this machine, with all that it needs; nothing when OpenCV is installed.
    plan=$(with_apt machine '' install --simulate --no-install-recommends "${packages[@]}") ||
        die 1 "apt-get finds no ${packages[*]}: install OpenCV's headers by hand"
    mapfile -t names < <(sed -n 's/^Inst \([^ ]*\) .*/\1/p' <<<"$plan")
    ((${#names[@]})) || return 0
    (mkdir -p -- "$1/archives" && cd -- "$1/archives" &&
        with_apt machine '' download "${names[@]}") || die 1 "apt-get cannot download OpenCV"
    unpack_packages "$1" "$1"/archives/*.deb
    rm -r -- "$1/archives"
}

fetch_onnxruntime() { # FOLDER
    local library
    mkdir -p -- "$1/headers" "$1/lib"
    pip_package "$1/wheel" onnxruntime
    library=$(find "$1/wheel/onnxruntime/capi" -name 'libonnxruntime.so*' | sort | tail -n 1)
    [[ -n $library ]] || die 1 "the package onnxruntime holds no library"
    mv -- "$library" "$1/lib/libonnxruntime.so.1"
    ln -s libonnxruntime.so.1 "$1/lib/libonnxruntime.so"
    rm -r -- "$1/wheel"
    command -v apt-get >/dev/null || die 1 "no apt-get: the headers of onnxruntime cannot be had"
    # Debian 12 does not have them yet; they are plain text and fit every machine.
    local script="s/bookworm/$ORT_HEADERS_RELEASE/g"
    with_apt headers "$script" update || die 1 "apt-get update failed"
    (cd -- "$1/headers" && with_apt headers "$script" download libonnxruntime-dev) ||
        die 1 "apt-get cannot download libonnxruntime-dev: get ONNX Runtime's archive, set ORT_HOME"
    unpack_packages "$1/headers" "$1"/headers/*.deb
    mv -- "$1/headers/usr/include/onnxruntime" "$1/include"
    rm -r -- "$1/headers"
}

fetch_mindspore_lite() { # FOLDER
    [[ $(uname -m) == x86_64 ]] || die 1 "mindspore-lite $LITE_VERSION is there for x86-64 only"
    pip_package "$1/wheel" "mindspore-lite==$LITE_VERSION" --python-version 3.7 \
        --platform manylinux1_x86_64
    mv -- "$1/wheel/mindspore_lite/include" "$1/wheel/mindspore_lite/lib" "$1"
    rm -r -- "$1/wheel"
}

split_arguments "$USAGE" 0 3 "$@"
((${#OPTIONS[@]} == 0)) || wrong_arguments "there is no option ${OPTIONS[0]}"
((${#POSITIONAL[@]})) || POSITIONAL=(opencv onnxruntime)
for name in "${POSITIONAL[@]}"; do
    [[ $name == opencv || $name == onnxruntime || $name == mindspore_lite ]] ||
        wrong_arguments "'$name' is no library that this script knows"
done
mkdir -p -- "$CACHE"
exec 9>"$CACHE/lock"
flock -w 1800 9 || die 1 "another process has been fetching for half an hour"
for name in "${POSITIONAL[@]}"; do
    [[ -d $CACHE/$name ]] && continue
    printf 'fetching %s into %s\n' "$name" "$CACHE"
    rm -rf -- "$CACHE/$name.part"
    mkdir -- "$CACHE/$name.part"
    "fetch_$name" "$CACHE/$name.part"
    mv -- "$CACHE/$name.part" "$CACHE/$name" # whole or not at all
done
