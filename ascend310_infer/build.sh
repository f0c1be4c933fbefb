#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the C++ application: --help prints the usage.
set -euo pipefail
unset CDPATH # with it, cd prints where it went
here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
source "$here/../scripts/common.sh"

USAGE="Usage: bash build.sh [BACKEND](option) [--sanitize yes] [--build_dir DIR]
Builds main with the backend onnxruntime or mindspore_lite (default: mindspore_lite when LITE_HOME
is set, else onnxruntime). Libraries are looked for on the machine and in .infer_cache/ of the
repository, which scripts/get_infer_dependencies.sh fills.
  --sanitize yes   with the address and undefined-behaviour sanitizers
  --build_dir DIR  default: build/BACKEND/ beside this script
Environment: LITE_HOME, folder of MindSpore Lite; LITE_CXX11_ABI, its C++ ABI (default 0, the old
one); ORT_HOME, folder of ONNX Runtime; BUILD_JOBS, compilers at once (default 2)."

split_arguments "$USAGE" 0 1 "$@"
known_options sanitize build_dir
cache=$REPO_ROOT/.infer_cache
backend=onnxruntime
[[ -z ${LITE_HOME:-} ]] || backend=mindspore_lite
backend=${POSITIONAL[0]:-$backend}
# One a program: no machine needs both, and each brings hundreds of megabytes.
definitions=(-DWITH_ONNXRUNTIME=OFF -DWITH_MINDSPORE_LITE=OFF -DSANITIZE=OFF)
case $backend in
    onnxruntime) definitions+=(-DWITH_ONNXRUNTIME=ON) ;;
    mindspore_lite) definitions+=(-DWITH_MINDSPORE_LITE=ON) ;;
    *) wrong_arguments "'$backend' is no backend: onnxruntime or mindspore_lite" ;;
esac
build=$(option_value build_dir "${OPTIONS[@]}") || build=$here/build/$backend
if value=$(option_value sanitize "${OPTIONS[@]}") && [[ $value == yes ]]; then
    definitions+=(-DSANITIZE=ON)
fi
[[ ! -d $cache/opencv ]] || definitions+=("-DDEPENDENCIES=$cache/opencv")
definitions+=("-DORT_HOME=${ORT_HOME:-$cache/onnxruntime}")
definitions+=("-DLITE_HOME=${LITE_HOME:-$cache/mindspore_lite}")
definitions+=("-DLITE_CXX11_ABI=${LITE_CXX11_ABI:-0}")
command -v cmake >/dev/null ||
    die 1 "cmake is missing: install it (Debian, Ubuntu: apt install cmake g++)"

# Two builds in one folder would disturb each other.
mkdir -p -- "$build"
exec 9>"$build/lock"
flock -w 1800 9 || die 1 "another build in $build takes more than half an hour"

# Libraries are looked for anew: another LITE_HOME would otherwise not count in a folder in use.
forget=(-U 'OPENCV_*' -U 'JSON_*' -U 'ORT_*' -U 'LITE_*')
cmake "${forget[@]}" "${definitions[@]}" -S "$here" -B "$build" ||
    die 1 "cmake failed, see above; scripts/get_infer_dependencies.sh fetches missing libraries"
cmake --build "$build" --parallel "${BUILD_JOBS:-2}" || die 1 "the compiler failed, see above"
printf 'built %s/main\n' "$build"
