# shellcheck shell=bash
# SPDX-License-Identifier: Apache-2.0
# Shell functions of the launchers: the folder of a run, and the program in it with its log and its
# exit code kept. Sourced.

source "$(dirname -- "${BASH_SOURCE[0]}")/common.sh"

CHECKPOINT_LIST=ckpt_0/checkpoints.json # of a run folder

# has_checkpoint FOLDER: whether the run in it lists a checkpoint to go on from.
has_checkpoint() {
    local list=$1/$CHECKPOINT_LIST
    [[ -f $list && -r $list && $(<"$list") == *.ckpt\"* ]]
}

# newest_run FOLDER: which of FOLDER, FOLDER_1, ... has the newest checkpoint goes to RUN_FOLDER;
# status 1 when none has one. There may be gaps in the numbers.
newest_run() {
    local folder newest=''
    for folder in "$1" "$1"_[0-9]*; do
        # Others are the user's copies.
        [[ $folder == "$1" || ${folder#"$1"_} =~ ^[0-9]+$ ]] || continue
        has_checkpoint "$folder" || continue
        [[ -n $newest && ! $folder/$CHECKPOINT_LIST -nt $newest/$CHECKPOINT_LIST ]] ||
            newest=$folder
    done
    [[ -n $newest ]] && RUN_FOLDER=$newest
}

# choose_run_folder NAME OPTIONS...: makes the run's folder in the caller's folder; its path goes to
# RUN_FOLDER. An existing folder is never written over: NAME, NAME_1, NAME_2, ... Only
# `--resume auto` goes on in the one with the newest checkpoint. `--output_dir DIR` names another
# folder. FOLDER_IS_NEW says whether this call made it.
choose_run_folder() {
    local name=$1 folder number=0 parents=()
    shift
    if folder=$(option_value output_dir "$@"); then
        [[ -n $folder ]] || wrong_arguments "--output_dir is empty"
        RUN_FOLDER=$(absolute_path "$folder")
        parents=(-p)
    else
        folder=$(absolute_path "$name")
        if [[ $(option_value resume "$@") == auto ]] && newest_run "$folder"; then
            folder=$RUN_FOLDER
        else
            while [[ -e $folder ]]; do
                number=$((number + 1))
                folder=$(absolute_path "${name}_$number")
            done
        fi
        RUN_FOLDER=$folder
    fi
    FOLDER_IS_NEW=0
    [[ -d $RUN_FOLDER ]] && return
    # Without -p, mkdir fails when another launch was faster.
    mkdir "${parents[@]}" -- "$RUN_FOLDER" 2>/dev/null ||
        die 2 "cannot make the run folder '$RUN_FOLDER'"
    FOLDER_IS_NEW=1
}

# remove_without_results FOLDER: removes a run folder that holds nothing but its log.txt and empty
# folders.
remove_without_results() {
    find "$1" -mindepth 1 -type d -empty -delete
    [[ $(ls -A -- "$1") == log.txt ]] && rm -- "$1/log.txt" && rmdir -- "$1"
}

# run_logged FOLDER COMMAND...: runs COMMAND in the caller's folder; what it prints goes to the
# terminal and to FOLDER/log.txt. SIGINT, SIGTERM and SIGHUP are handed on, so that a stopped run
# saves its checkpoint. When COMMAND was given something wrong (exit code 2), a new run folder
# without results is removed. Returns COMMAND's exit code.
run_logged() {
    local folder=$1 log=$1/log.txt child writer signalled status
    shift
    say 'run folder: %s\nlog: %s\n' "$folder" "$log"
    # The log writer outlives every signal, whoever reads the terminal's end, and a full disk: it
    # ends when the run closes its output.
    exec 3> >(
        trap '' INT TERM HUP PIPE
        tee -a -- "$log" || true
        exec cat >/dev/null # tee gives up when it can write nowhere
    )
    writer=$!
    # In a process group of its own the run gets the terminal's Ctrl-C only once, from here.
    set -m
    FASTERRCNN_LOG=$log "$@" </dev/null >&3 2>&1 3>&- &
    child=$!
    exec 3>&-
    set +m
    trap 'signalled=1; kill -INT "$child" 2>/dev/null' INT
    trap 'signalled=1; kill -TERM "$child" 2>/dev/null' TERM
    trap 'signalled=1; kill -HUP "$child" 2>/dev/null' HUP
    # A trapped signal ends `wait` early: wait again until the run itself is over.
    while :; do
        signalled=0 status=0
        wait "$child" || status=$?
        ((signalled)) || break
    done
    trap - INT TERM HUP
    wait "$writer" 2>/dev/null || true
    if ((status == 0)); then
        say 'finished, see %s\n' "$folder"
    elif ((status == 2 && FOLDER_IS_NEW)) && [[ $folder == "$RUN_FOLDER" ]] &&
        remove_without_results "$folder"; then
        say 'failed with exit code 2, see above; %s is removed\n' "$folder" >&2
    else
        say 'failed with exit code %d, see %s\n' "$status" "$log" >&2
    fi
    return "$status"
}
