#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Checks and tests: ruff, mypy, shellcheck, clang-format, then pytest with the arguments given here.
#   bash scripts/run_tests.sh                     everything
#   bash scripts/run_tests.sh -m "not slow" -x    pytest's own options
#   bash scripts/run_tests.sh -n 0 --pdb          in one process
# Makes .venv and installs what is missing when no environment is active. PYTHON chooses the
# interpreter.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"
source "$REPO_ROOT/scripts/environment.sh"

ensure_environment "$REPO_ROOT/requirements-dev.txt"
cd -- "$REPO_ROOT"
"$PYTHON" -m ruff check .
"$PYTHON" -m ruff format --check .
"$PYTHON" -m mypy
shellcheck -x -P scripts scripts/*.sh .ci/run ascend310_infer/build.sh
clang-format --dry-run --Werror src/native/kernels/*.{cc,h} ascend310_infer/src/*.{cc,h} \
    tests/resources/*.cc
# Most of a test is compiling graphs, which uses one processor. A file's tests stay together, for
# what they share, and start in pytest's order. How many processes `auto` is, tests/conftest.py says.
exec "$PYTHON" -m pytest -n auto --dist loadfile --no-loadscope-reorder "$@"
