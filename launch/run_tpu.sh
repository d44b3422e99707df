#!/usr/bin/env bash
# For people who type gcloud themselves: runs on every worker of a TPU VM, in a clone of recjax.
#
#   gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all --command="git clone ADDRESS recjax"
#   gcloud compute tpus tpu-vm ssh NAME --zone=ZONE --worker=all --command="bash \
#       recjax/launch/run_tpu.sh recjax.main --config configs/sasrec.py:ml1m --workdir DIR"
#
# DIR is one folder that all workers see, or gs://BUCKET/FOLDER. The connection must last; what
# `python -m launch run` starts is detached.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash launch/remote/bootstrap.sh "${RECJAX_PYTHON:-3.12}" - 'jax[tpu]' >&2
export RECJAX_EXPECT_BACKEND="${RECJAX_EXPECT_BACKEND:-tpu}" # or JAX falls back to the CPU
# exec: signals reach the program itself, which saves its state and exits with 42
exec "$HOME/.recjax/venv/bin/python" -m "$@"
