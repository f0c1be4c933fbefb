# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Shell functions that prepare Python for run_quickstart.sh and run_tests.sh. Sourced after
# common.sh.

# missing_requirements PYTHON FILE: prints the lines of FILE that PYTHON's environment does not
# fulfil. Asks the environment itself, so that nothing stale can say "installed".
missing_requirements() {
    "$1" "$REPO_ROOT/scripts/missing_requirements.py" "$2"
}

check_python_version() { # PYTHON
    local version
    version=$("$1" -c 'import sys; print("%d %d" % sys.version_info[:2])' 2>/dev/null) ||
        die 2 "'$1' does not run as a Python interpreter"
    local major=${version% *} minor=${version#* }
    ((major == 3 && minor >= 10 && minor <= 12)) ||
        die 2 "$1 is Python $major.$minor: 3.10 to 3.12 is needed, set PYTHON to such a one"
}

# make_venv BASE_PYTHON: the repository's .venv, made anew when a killed run left half of one.
make_venv() {
    local venv=$REPO_ROOT/.venv
    check_python_version "$1"
    "$venv/bin/python" -m pip --version >/dev/null 2>&1 && return 0
    "$1" -c 'import venv, ensurepip' 2>/dev/null ||
        die 2 "$1 has no venv module: install it (Debian, Ubuntu: apt install python3-venv)"
    printf 'making %s\n' "$venv"
    "$1" -m venv --clear "$venv" || die 1 "could not make the virtual environment '$venv'"
}

# is_environment PYTHON: whether it is the interpreter of a virtual or (not `base`) conda
# environment.
is_environment() {
    [[ -z ${PYTHON:-} && -n ${CONDA_PREFIX:-} ]] && environment_is_active && return 0
    "$1" -c 'import sys; sys.exit(sys.prefix == sys.base_prefix)' 2>/dev/null
}

# ensure_environment FILE: puts an interpreter that fulfils the requirements FILE into PYTHON,
# exported, with its folder first in PATH. Installs into the active environment, else into the
# repository's .venv.
ensure_environment() {
    local requirements=$1 python missing
    python=$(command -v -- "${PYTHON:-python3}" || command -v -- "${PYTHON:-python}") ||
        die 2 "no interpreter '${PYTHON:-python3}' found: install Python 3.11 or set PYTHON"
    python=$(absolute_path "$python")
    if ! is_environment "$python"; then
        make_venv "$python"
        python=$REPO_ROOT/.venv/bin/python
    fi
    check_python_version "$python"
    missing=$(missing_requirements "$python" "$requirements") || exit
    if [[ -n $missing ]]; then
        printf 'installing what is missing into %s:\n%s\n' \
            "$("$python" -c 'import sys; print(sys.prefix)')" "$missing"
        "$python" -m pip install --quiet --disable-pip-version-check -r "$requirements" ||
            die 1 "pip could not install $requirements: see what it says above"
    fi
    export PYTHON=$python PATH="${python%/*}:$PATH"
}
