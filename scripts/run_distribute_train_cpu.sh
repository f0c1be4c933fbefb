#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains in several processes on CPUs, by msrun: --help prints the usage.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/distributed.sh"
distributed_train msrun CPU PROCESS_NUM "PROCESS_NUM       number of processes of this server" "$@"
