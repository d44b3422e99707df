#!/usr/bin/env bash
# Starts a run that outlives the connection; FOLDER keeps what became of it: pid, log, exit_code.
#
#   run.sh start FOLDER WORD...     ~/ at the start of a word, or after its =, is the worker's home
#
# `keep`, which `start` detaches, waits for the program, hands on SIGTERM and writes the exit code:
# the one place where the truth is, since what gcloud says of a remote command cannot be trusted.
# RECJAX_LOG_FOLDER gets a copy of the log; RECJAX_AT_END is run when the program has ended well.
set -euo pipefail

alive() { # $1: FOLDER. A number may have been given to another process since.
    local pid
    pid="$(cat "$1/pid" 2>/dev/null)" && tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "keep $1 "
}

start() {
    local folder="$1"
    mkdir -p "$folder"
    exec 9>"$folder/lock"
    flock 9
    if alive "$folder"; then
        if [[ ! -e "$folder/exit_code" ]]; then
            echo "recjax: running $(cat "$folder/pid")"
            return
        fi
        kill -KILL -- "-$(cat "$folder/pid")" || true # it waits to delete this TPU, which is in use
    fi
    if [[ -e "$folder/log" ]]; then mv "$folder/log" "$folder/log.$(date +%s)"; fi
    rm -f "$folder/pid" "$folder/exit_code"
    setsid nohup bash "${BASH_SOURCE[0]}" keep "$@" </dev/null >"$folder/log" 2>&1 9>&- &
    for ((i = 0; i < 200; i++)); do
        if [[ -s "$folder/pid" ]]; then break; fi
        sleep 0.05
    done
    echo "recjax: started $(cat "$folder/pid")"
}

keep() {
    local folder="$1" words=() word code child
    shift
    if [[ -e "$folder/secrets" ]]; then # never on a command line, never longer than needed
        # shellcheck source=/dev/null
        set -a && source "$folder/secrets" && set +a && rm "$folder/secrets"
    fi
    for word in "$@"; do
        word="${word/#\~\//$HOME/}"
        words+=("${word/=\~\//=$HOME/}")
    done
    cd "$(dirname "${BASH_SOURCE[0]}")/../.."
    export PATH="$HOME/.recjax/venv/bin:$PATH"
    child=""
    trap '[[ -z "$child" ]] || kill -TERM "$child" 2>/dev/null' TERM INT
    "${words[@]}" &
    child=$!
    write "$folder/pid" $$
    wait "$child" || true
    while kill -0 "$child" 2>/dev/null; do wait "$child" || true; done # a signal ends `wait` early
    code=0
    wait "$child" || code=$? # bash keeps the code of a child that has ended
    if ((code == 255)); then code=254; fi # gcloud would run the script again
    keep_log "$folder" || echo "recjax: the log could not be copied"
    write "$folder/exit_code" "$code"
    if ((code == 0)) && [[ -n "${RECJAX_AT_END:-}" ]]; then
        sleep "${RECJAX_AT_END_SECONDS:-600}" # a watcher may want the files first
        bash -c "$RECJAX_AT_END"
    fi
}

keep_log() {
    if [[ -n "${RECJAX_LOG_FOLDER:-}" ]]; then
        local target="${RECJAX_LOG_FOLDER/#\~\//$HOME/}"
        mkdir -p "$target" && cp "$1/log" "$target/worker-${RECJAX_WORKER:-0}.log"
    fi
}

write() { # beside and renamed: nobody reads half a file
    printf '%s\n' "$2" >"$1.partial" && mv "$1.partial" "$1"
}

verb="$1" folder="$(mkdir -p "$2" && cd "$2" && pwd)"
shift 2
"$verb" "$folder" "$@"
