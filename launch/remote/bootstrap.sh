#!/usr/bin/env bash
# Makes a worker ready: Python environment, huge pages, the mounted bucket. Run again, it does nothing.
#
#   bootstrap.sh PYTHON BUCKET [REQUIREMENT ...]      BUCKET "-": none
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." # the code of recjax
version="$1" bucket="$2" home="$HOME/.recjax"
shift 2
mkdir -p "$home"
exec 9>"$home/bootstrap.lock"
flock 9 # a second launch waits here until the first has installed

export PATH="$PATH:$HOME/.local/bin"
if ! command -v uv >/dev/null; then
    python3 -m pip install --quiet --user uv # the image's own Python is too old for JAX
fi
sum="$({ cat requirements.txt && printf '%s\n' "$version" "$@"; } | sha256sum | cut -c 1-16)"
environment="$home/venvs/$sum"
if [[ ! -e "$environment/ready" ]]; then
    rm -rf "$environment" # never patch a half-made one
    uv venv --quiet --python "$version" "$environment"
    uv pip install --quiet --python "$environment/bin/python" -r requirements.txt "$@"
    touch "$environment/ready"
fi
ln -sfn "$environment" "$home/venv"

if compgen -G '/dev/accel*' >/dev/null || compgen -G '/dev/vfio/[0-9]*' >/dev/null; then
    # the TPU runtime starts in half the time
    echo always | sudo -n tee /sys/kernel/mm/transparent_hugepage/enabled >/dev/null || true
fi
if [[ "$bucket" != "-" ]] && ! mountpoint -q "$home/gcs/$bucket"; then
    if ! command -v gcsfuse >/dev/null; then
        echo "gcsfuse is not installed on this worker; it mounts gs://$bucket" >&2
        exit 2
    fi
    mkdir -p "$home/gcs/$bucket"
    # folders are renamed into place when they are complete: they may hold many files
    gcsfuse --implicit-dirs --rename-dir-limit=100000 "$bucket" "$home/gcs/$bucket" >/dev/null
fi
echo "recjax: ready $sum"
