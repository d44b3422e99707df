"""Measures the recursions over time, one step after another, against the associative scan.

    python benchmarks/hmm_time_parallel.py [--quick] [--output FILE]

One row per size: seconds of the forward recursion, and of forward and backward together (the
smoother), both ways, best of 100 calls of each in turn, compile time apart.
`recjax.hmm.associative` takes its rule from here (`FASTER_WITHIN`).
"""

import functools
import itertools
import json
import time
from types import ModuleType

import jax
import jax.numpy as jnp
import numpy as np
from records import make_parser, write_record

from recjax import hmm
from recjax.hmm import associative, recursions
from recjax.hmm.emissions import observe
from recjax.hmm.events import time_major

NUM_ITEMS, CALLS = 50, 100
SIZES = tuple(itertools.product((256, 2048), (1, 16), (2, 16)))[
    :-1
]  # T, B, K; the last is too long
QUICK_SIZES = ((64, 1, 2),)


@functools.partial(jax.jit, static_argnames=("way", "smooth"))
def run(params: hmm.HmmParams, layout: hmm.Layout, way: ModuleType, smooth: bool) -> jax.Array:
    """Returns the filtered or the smoothed states [T, B, K]."""
    likelihood = observe(params, layout, leave_out=False).likelihood
    alphas, norms = way.forward(params, layout, likelihood)
    if not smooth:
        return alphas
    return way.backward(params, layout, likelihood, alphas, norms)[0]


def measure(num_steps: int, num_rows: int, num_states: int) -> dict:
    """Returns the row of one size."""
    rng = np.random.default_rng(0)
    params = jax.tree.map(jnp.asarray, _model(rng, num_states))
    grid = rng.integers(0, NUM_ITEMS, (num_rows, num_steps)).astype(np.int32)
    events = hmm.Events(grid, 0 * grid, 0 * grid, np.full(num_rows, num_steps, np.int32))
    layout = time_major(hmm.lay_out(events))
    row: dict = {"steps": num_steps, "rows": num_rows, "states": num_states}
    results = {}
    for smooth in (False, True):
        calls = {
            name: functools.partial(run, params, layout, way=way, smooth=smooth)
            for name, way in (("recursion", recursions), ("associative", associative))
        }
        kind = "smoother" if smooth else "filter"
        for name, call in calls.items():
            row[f"{name}_{kind}_compile_seconds"], results[name] = _timed(call)
        seconds = {name: [] for name in calls}
        for _ in range(CALLS):  # in turn, so that both meet the same neighbours on the machine
            for name, call in calls.items():
                seconds[name].append(_timed(call)[0])
        row |= {f"{name}_{kind}_seconds": min(values) for name, values in seconds.items()}
    difference = jnp.abs(results["recursion"] - results["associative"]).max()
    return row | {"largest_difference": float(difference)}


def _timed(call: functools.partial) -> tuple[float, jax.Array]:
    begin = time.perf_counter()
    result = jax.block_until_ready(call())
    return time.perf_counter() - begin, result


def _model(rng: np.random.Generator, num_states: int) -> hmm.HmmParams:
    def rows(*shape: int) -> np.ndarray:
        return rng.dirichlet(np.ones(shape[-1]), shape[:-1]).astype(np.float32)

    return hmm.HmmParams(
        start=rows(1, num_states),
        transition=rows(num_states, num_states),
        stop=np.full(num_states, 1e-3, np.float32),
        action=rows(num_states, 1),
        gap=rows(num_states, 1),
        mix=np.zeros(num_states, np.float32),
        items=hmm.PlainItems(np.ascontiguousarray(rows(num_states, NUM_ITEMS).T)),
    )


def main() -> None:
    """Measures all sizes and writes them."""
    arguments = make_parser(__doc__).parse_args()
    rows = []
    for num_steps, num_rows, num_states in QUICK_SIZES if arguments.quick else SIZES:
        rows.append(measure(num_steps, num_rows, num_states))
        print(json.dumps(rows[-1]), flush=True)
    write_record("hmm_time_parallel", rows, arguments)


if __name__ == "__main__":
    main()
