"""Starts recjax on TPU VMs through gcloud; `python -m launch --help` from the repository's root.

Standard library only, and nothing of recjax: it runs on a laptop that has neither JAX nor a GPU.
Data travels one way: a spec (`specs/`) becomes argument lists (`commands.py`), a runner hands them
to gcloud (`gcloud.py`), what comes back is read into an observation (`observation.py`), and a pure
state machine (`machine.py`) says what to do next. What runs on a worker lies in `remote/`.
"""
