#!/usr/bin/env bash
# Says what became of a run, in two lines that `launch/observation.py` reads:
#
#   status.sh FOLDER WORKDIR
#
#   recjax-worker STATE CODE SECONDS INFRA      none | running | exited | lost; "-" where not known
#   recjax-progress AGE JSON                    of WORKDIR/progress.json, since it last changed;
#                                               absent where that is
set -euo pipefail
folder="$1" workdir="${2/#\~\//$HOME/}" state=none code=- seconds=- infra=0
folder="$(cd "$folder" 2>/dev/null && pwd)" || folder=/nonexistent
now="$(date +%s)"
if [[ -e "$folder/exit_code" ]]; then
    state=exited code="$(cat "$folder/exit_code")" seconds=$((now - $(stat -c %Y "$folder/exit_code")))
elif pid="$(cat "$folder/pid" 2>/dev/null)"; then
    state=lost seconds=$((now - $(stat -c %Y "$folder/pid")))
    if tr '\0' ' ' 2>/dev/null <"/proc/$pid/cmdline" | grep -qF "keep $folder "; then state=running; fi
fi
# what a broken or busy TPU says; the run itself ends with 1
words='No accelerator found|[Dd]evice or resource busy|already in use by process|Unable to initialize backend'
if tail -n 200 "$folder/log" 2>/dev/null | grep -qE "$words"; then infra=1; fi
echo "recjax-worker $state $code $seconds $infra"
if [[ -e "$workdir/progress.json" ]]; then
    progress="$(tr -d '\n' <"$workdir/progress.json")"
    changed="$(sed -n 's/.*"changed": \([0-9]*\).*/\1/p' <<<"$progress")" # its time says alive only
    echo "recjax-progress $((now - ${changed:-$(stat -c %Y "$workdir/progress.json")})) $progress"
fi
