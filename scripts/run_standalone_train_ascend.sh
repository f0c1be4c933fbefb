#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Trains on one Ascend device: --help prints the usage.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/single_device.sh"
standalone_train Ascend "$@"
