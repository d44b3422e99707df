#!/usr/bin/env bash
# Stops a run and frees the chips: SIGTERM, time to save, then SIGKILL, then whatever holds a TPU.
#
#   stop.sh FOLDER SECONDS [forget]     forget: what became of it, and that it was to delete the TPU
set -euo pipefail
folder="$(cd "$1" 2>/dev/null && pwd)" || folder=/nonexistent
seconds="$2"
if pid="$(cat "$folder/pid" 2>/dev/null)" && [[ ! -e "$folder/exit_code" ]]; then
    if tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "keep $folder "; then
        kill -TERM "$pid" || true
        for ((i = 0; i < 10 * seconds; i++)); do
            if [[ -e "$folder/exit_code" ]]; then break; fi
            sleep 0.1
        done
    fi
    kill -KILL -- "-$pid" 2>/dev/null || true # the group, even where its first process is gone
    if [[ ! -e "$folder/exit_code" ]]; then echo 137 >"$folder/exit_code"; fi
fi
said="$(cat "$folder/exit_code" 2>/dev/null || echo -)"
if [[ "${3:-}" == forget && -e "$folder/pid" ]]; then
    pid="$(cat "$folder/pid")"
    if tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "keep $folder "; then
        kill -KILL -- "-$pid" 2>/dev/null || true
    fi
    rm -f "$folder/pid" "$folder/exit_code"
fi
nodes=()
for node in /dev/accel* /dev/vfio/[0-9]*; do
    if [[ -e "$node" ]]; then nodes+=("$node"); fi
done
if ((${#nodes[@]})); then # on a TPU only: a process that died badly keeps the next one out
    holders="$(sudo -n lsof -w -t "${nodes[@]}" 2>/dev/null || true)"
    # shellcheck disable=SC2086  # one word a process
    if [[ -n "$holders" ]]; then sudo -n kill -KILL $holders || true; fi
    sudo -n rm -f /tmp/libtpu_lockfile || true
fi
echo "recjax: stopped $said"
