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
if [[ "$bucket" != "-" ]]; then "$environment/bin/python" -m recjax.buckets "$bucket" >&2; fi
echo "recjax: ready $sum"
