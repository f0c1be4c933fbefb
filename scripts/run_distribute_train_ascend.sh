#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains on Ascend devices, one process each, by a rank table or by msrun: --help prints the usage.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/distributed.sh"
distributed_train table Ascend RANK_TABLE_FILE \
    "RANK_TABLE_FILE   HCCL's table of the devices, or: none (msrun starts LOCAL_WORKER_NUM processes, 8)" "$@"
