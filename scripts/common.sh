# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Shell functions of every script: messages, paths, Python. Sourced, never run. Exit code 2 means that
# the arguments are wrong and nothing was started.

unset CDPATH # with it, cd prints where it went
# A closed stream's number would go to the next file that is opened.
[[ -e /dev/fd/0 ]] || exec </dev/null
[[ -e /dev/fd/1 ]] || exec >/dev/null
[[ -e /dev/fd/2 ]] || exec 2>/dev/null
REPO_ROOT=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)

# die CODE MESSAGE: one line on stderr, then leave.
die() {
    printf 'error: %s\n' "$2" >&2 || true
    exit "$1"
}

# say FORMAT ARGS...: a line to the user; one that cannot be written (disk full, nobody there) is
# no reason to end. A shell of its own takes the SIGPIPE.
say() {
    # shellcheck disable=SC2059
    (printf "$@") 2>/dev/null || true
}

# wrong_arguments MESSAGE: what is wrong and where it is told how it is meant, exit code 2.
wrong_arguments() {
    die 2 "$1; see: bash $0 --help"
}

# absolute_path PATH: PATH itself when absolute, else below the caller's folder; need not exist. The
# shell has left ~/ alone in `--key=~/PATH`; without a HOME it would be the root folder.
absolute_path() {
    case $1 in
        /*) printf '%s\n' "$1" ;;
        \~/*)
            [[ ${HOME-} == /?* ]] || die 2 "'$1': HOME names no folder; give the whole path"
            printf '%s/%s\n' "${HOME%/}" "${1#\~/}"
            ;;
        ./*) printf '%s/%s\n' "${PWD%/}" "${1#./}" ;;
        *) printf '%s/%s\n' "${PWD%/}" "$1" ;;
    esac
}

# environment_is_active: a virtual environment, or a conda environment that is not `base`.
environment_is_active() {
    [[ -n ${VIRTUAL_ENV:-} ]] && return 0
    [[ -n ${CONDA_PREFIX:-} && ${CONDA_DEFAULT_ENV:-base} != base ]]
}

# find_python: prints the interpreter to use: $PYTHON, the active environment's `python`, the
# repository's .venv, and at last `python` or `python3` of PATH.
find_python() {
    if [[ -n ${PYTHON:-} ]]; then
        command -v -- "$PYTHON" || die 2 "PYTHON='$PYTHON' is not a program that can be run"
    elif environment_is_active && command -v python; then
        return 0
    elif [[ -x $REPO_ROOT/.venv/bin/python ]]; then
        printf '%s\n' "$REPO_ROOT/.venv/bin/python"
    else
        command -v python || command -v python3 ||
            die 2 "no python found: install Python 3.11 or set PYTHON to an interpreter"
    fi
}

check_file() { # ARGUMENT_NAME PATH
    [[ -f $2 ]] || wrong_arguments "$1 is not a file: '$2'"
    [[ -r $2 ]] || wrong_arguments "$1 cannot be read: '$2'"
}

check_folder() { # ARGUMENT_NAME PATH
    [[ -d $2 ]] || wrong_arguments "$1 is not a folder: '$2'"
}

# check_number ARGUMENT_NAME VALUE: makes sure that it is a whole number from 1 on.
check_number() {
    [[ $2 =~ ^[1-9][0-9]{0,4}$ ]] || wrong_arguments "$1 is not a whole number from 1 on: '$2'"
}

# option_value KEY ARGS...: prints the last value of `--KEY VALUE` or `--KEY=VALUE`; status 1 when
# absent.
option_value() {
    local key=$1 value found=1
    shift
    while (($#)); do
        case $1 in
            "--$key="*) value=${1#*=} found=0 ;;
            "--$key") value=${2-} found=0 ;;
        esac
        shift
    done
    ((found == 0)) && printf '%s\n' "$value"
    return "$found"
}

# split_arguments USAGE FEWEST MOST ARGS...: fills POSITIONAL with what stands before the first
# `--key` and OPTIONS with the rest, which goes to the Python program as it is.
split_arguments() {
    local usage=$1 fewest=$2 most=$3 word
    shift 3
    POSITIONAL=() OPTIONS=()
    for word in "$@"; do # anywhere: a run that only printed its help would count as finished
        [[ $word != -h && $word != --help ]] || {
            printf '%s\n' "$usage"
            exit 0
        }
    done
    while (($#)) && [[ $1 != --* ]]; do
        [[ $1 != -* ]] || wrong_arguments "'$1' is no argument: options are written --key value"
        POSITIONAL+=("$1")
        shift
    done
    OPTIONS=("$@")
    while (($#)); do
        [[ $1 != --* || $1 == *=* || ($# -gt 1 && $2 != --*) ]] ||
            wrong_arguments "$1 has no value"
        shift
    done
    ((${#POSITIONAL[@]} >= fewest && ${#POSITIONAL[@]} <= most)) ||
        wrong_arguments "${#POSITIONAL[@]} arguments given, $fewest to $most expected"
}

# known_options KEY...: makes sure that OPTIONS has no others.
known_options() {
    local word key
    for word in "${OPTIONS[@]}"; do
        [[ $word == --* ]] || continue
        key=${word#--}
        key=${key%%=*}
        [[ " $* " == *" $key "* ]] || wrong_arguments "--$key is no option here"
    done
}
