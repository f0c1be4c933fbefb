#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains on several GPUs, one process each: by msrun, with USE_MPIRUN=1 by mpirun: --help prints the usage.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/distributed.sh"
how=msrun
[[ ${USE_MPIRUN:-0} != 1 ]] || how=mpirun
distributed_train "$how" GPU DEVICE_NUM "DEVICE_NUM        number of GPUs of this server" "$@"
