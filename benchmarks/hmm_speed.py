"""Speed of the HMM engine beside hmmlearn and dynamax: drawing, and one iteration of Baum-Welch.

    python benchmarks/hmm_speed.py [--quick] [--output FILE] [--peer-python PYTHON]

Every figure comes from a process of its own (so that its peak memory is its own), all one after
another on this machine. The peers run in their best form: hmmlearn's `sample` and its scaled E-step
in C (its default in logarithms beside it); dynamax jitted and vmapped, its E-step over as many
users at a time as keep its one-hot items within 100 MB. All sides of a row see the same model.
`limits` rows hold the rates of the parts: random words, gathers from a table of that size, matrix
products of float32. `growth` rows vary one size of recjax alone.

Peers are found in PYTHON (default: this one); `pip install hmmlearn dynamax` there. Where one is
missing its column is null.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from records import Row, make_parser, median_seconds, write_record

_TIMEOUT_SECONDS = 240
STATES, ITEMS = (16, 64, 256), (2_000, 12_000, 100_000)
LENGTH = 20  # events of a user; dynamax takes users of one length only


def make_model(states: int, items: int) -> dict[str, np.ndarray]:
    """A model with skewed items: every state a random tilt of a Zipf catalogue."""
    rng = np.random.default_rng(0)
    odds = rng.exponential(size=(states, items)) / np.arange(1, items + 1)
    moves = rng.exponential(size=(states, states)) + states * np.eye(states)
    start = rng.exponential(size=states)
    return {
        "start": start / start.sum(),
        "transition": moves / moves.sum(1, keepdims=True),
        "items": odds / odds.sum(1, keepdims=True),
    }


def make_events(items: int, num_events: int) -> np.ndarray:
    """Zipf items int32 [users, LENGTH]."""
    rng = np.random.default_rng(1)
    share = 1.0 / np.arange(1, items + 1)
    shape = (num_events // LENGTH, LENGTH)
    return rng.choice(items, size=shape, p=share / share.sum()).astype(np.int32)


# recjax ------------------------------------------------------------------------------------------


def recjax_params(states: int, items: int, stop: float = 0.0):
    """The model of `make_model` as recjax holds it."""
    from recjax import hmm

    model = make_model(states, items)
    one = np.ones((states, 1), np.float32)
    return hmm.HmmParams(
        start=model["start"].astype(np.float32)[None],
        transition=model["transition"].astype(np.float32),
        stop=np.full(states, stop, np.float32),
        action=one,
        gap=one,
        mix=np.zeros(states, np.float32),
        items=hmm.PlainItems(np.ascontiguousarray(model["items"].T.astype(np.float32))),
    )


def recjax_draw(states: int, items: int, num_events: int) -> float:
    """Events per second of whole users, plain family: 96 random bits an event."""
    from recjax import hmm

    mesh = _all_cores()
    tables = hmm.make_tables(recjax_params(states, items))
    return _draw_rate(tables, num_events, LENGTH, False, mesh)


def recjax_draw_kernel(states: int, items: int, num_events: int) -> float:
    """Events per second with kernel on previous items, stop and no repeats, up to 50 events."""
    import dataclasses

    from recjax import hmm

    mesh = _all_cores()
    settings = hmm.HmmSettings(
        num_states=states, num_iterations=1, tolerance=0.0, kernel_window=3, kernel_neighbours=64,
        kernel_backward=0.5, kernel_damping=0.5, smoothing=0.1,
    )  # fmt: skip
    log = make_events(items, 400_000)
    offsets = np.arange(0, log.size + 1, LENGTH)
    kernel = hmm.build_kernel([(log.reshape(-1), offsets)], items, settings)
    params = dataclasses.replace(
        recjax_params(states, items, stop=0.1), mix=np.full(states, 0.5, np.float32), kernel=kernel
    )
    return _draw_rate(hmm.make_tables(params), num_events, 50, True, mesh)


def _all_cores():
    """A mesh of one CPU device per core: programs of small steps use one core each."""
    import os

    import jax

    if jax.config.jax_num_cpu_devices < 2 and jax.config.jax_platforms in (None, "", "cpu"):
        jax.config.update("jax_num_cpu_devices", len(os.sched_getaffinity(0)))
    auto = jax.sharding.AxisType.Auto
    return jax.make_mesh((jax.device_count(),), ("data",), axis_types=(auto,))


def _draw_rate(tables, num_events: int, max_len: int, no_repeats: bool, mesh) -> float:
    import functools

    import jax
    import jax.numpy as jnp

    from recjax import hmm

    num_rows = 65_536
    batches = max(1, num_events // (num_rows * LENGTH))
    draw = hmm.spread_rows(
        mesh, functools.partial(hmm.draw_users, max_len=max_len, no_repeats=no_repeats)
    )
    drawn = 0

    def run() -> None:
        nonlocal drawn
        lengths = []
        for batch in range(batches):
            rows = jnp.arange(num_rows, dtype=jnp.int32) + batch * num_rows
            events, _ = draw(jax.random.key(0), tables, rows)
            lengths.append(events.lengths.sum())
        drawn = int(sum(jax.device_get(lengths)))

    seconds = median_seconds(run)
    return drawn / seconds


def recjax_em(states: int, items: int, num_events: int) -> float:
    """Events per second of one iteration (three less one), packing on the host included."""
    import functools

    import jax

    from recjax import hmm

    mesh = _all_cores()
    log = make_events(items, num_events)
    events = hmm.Events(log, 0 * log, 0 * log, np.full(len(log), LENGTH, np.int32))
    params = hmm.place_tables(recjax_params(states, items, stop=0.05), mesh, item_axis=None)
    place = hmm.row_placer(mesh)

    def fit(num_iterations: int) -> None:
        settings = hmm.HmmSettings(
            num_states=states, num_iterations=num_iterations, tolerance=0.0, kernel_window=1,
            kernel_neighbours=1, kernel_backward=0.0, kernel_damping=0.0, smoothing=0.1,
        )  # fmt: skip
        batches = functools.partial(_split, events, 4096)
        sizes = hmm.HmmSizes(items)
        fitted, history = hmm.fit_baum_welch(
            jax.random.key(0), batches, sizes, settings, initial=params, place=place
        )
        assert len(history) == num_iterations, "stopped early"
        jax.block_until_ready(fitted)

    three, one = median_seconds(lambda: fit(3), 3), median_seconds(lambda: fit(1), 3)
    return 2 * log.size / (three - one)


def _split(events, size: int):
    for start in range(0, len(events.lengths), size):
        rows = slice(start, start + size)
        yield type(events)(
            events.items[rows], events.actions[rows], events.gaps[rows], events.lengths[rows]
        )


# peers -------------------------------------------------------------------------------------------


def hmmlearn_model(states: int, items: int, implementation: str = "scaling"):
    """The model of `make_model` as hmmlearn holds it."""
    from hmmlearn.hmm import CategoricalHMM

    model = make_model(states, items)
    peer = CategoricalHMM(
        states,
        n_features=items,
        init_params="",
        n_iter=1,
        tol=-np.inf,
        implementation=implementation,
    )
    peer.startprob_, peer.transmat_ = model["start"], model["transition"]
    peer.emissionprob_ = model["items"]
    return peer


def hmmlearn_draw(states: int, items: int, num_events: int) -> float:
    """Events per second of `sample`, one long user."""
    peer, num = hmmlearn_model(states, items), min(num_events, 20_000)
    return num / median_seconds(lambda: peer.sample(num, random_state=0), 3)


def hmmlearn_em(states: int, items: int, num_events: int, implementation: str = "scaling") -> float:
    """Events per second of one iteration of `fit`, scaled: its fastest form."""
    log = make_events(items, num_events)
    lengths = np.full(len(log), LENGTH)
    peer = hmmlearn_model(states, items, implementation)
    return log.size / median_seconds(lambda: peer.fit(log.reshape(-1, 1), lengths), 1)


def hmmlearn_log_em(states: int, items: int, num_events: int) -> float:
    """The same in the logarithms that hmmlearn takes by default."""
    return hmmlearn_em(states, items, num_events, "log")


def dynamax_model(states: int, items: int):
    """The model of `make_model` as dynamax holds it."""
    import jax
    import jax.numpy as jnp
    from dynamax.hidden_markov_model import CategoricalHMM

    model = make_model(states, items)
    peer = CategoricalHMM(states, 1, items)
    params, properties = peer.initialize(
        jax.random.key(0),
        initial_probs=jnp.asarray(model["start"], jnp.float32),
        transition_matrix=jnp.asarray(model["transition"], jnp.float32),
        emission_probs=jnp.asarray(model["items"][:, None, :], jnp.float32),
    )
    return peer, params, properties


def dynamax_draw(states: int, items: int, num_events: int) -> float:
    """Events per second of `sample`, jitted and vmapped over users."""
    import jax

    peer, params, _ = dynamax_model(states, items)
    num_rows = max(8, min(num_events, 40_000_000 // items) // LENGTH)
    draw = jax.jit(jax.vmap(lambda key: peer.sample(params, key, LENGTH)))
    keys = jax.random.split(jax.random.key(0), num_rows)
    return num_rows * LENGTH / median_seconds(lambda: jax.block_until_ready(draw(keys)), 3)


def dynamax_em(states: int, items: int, num_events: int) -> float:
    """Events per second of one iteration, expected counts summed over chunks of users.

    A user costs the same however many there are (his own counts, states x items), so a large table
    is measured on fewer of them.
    """
    import jax
    import jax.numpy as jnp

    peer, params, properties = dynamax_model(states, items)
    log = make_events(items, min(num_events, LENGTH * max(100, 2_000_000_000 // (states * items))))
    at_once = max(1, 25_000_000 // (items * max(LENGTH, states)))
    users = log[: len(log) // at_once * at_once].reshape(-1, at_once, LENGTH, 1)

    @jax.jit
    def iterate(params, users):
        def add(total, chunk):
            stats, _ = jax.vmap(lambda user: peer.e_step(params, user))(chunk)
            return jax.tree.map(lambda a, b: a + b.sum(0), total, stats), None

        shapes = jax.eval_shape(lambda user: peer.e_step(params, user)[0], users[0, 0])
        zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)
        stats, _ = jax.lax.scan(add, zeros, users)
        stats = jax.tree.map(lambda leaf: leaf[None], stats)
        state = peer.initialize_m_step_state(params, properties)
        return peer.m_step(params, properties, stats, state)[0]

    return users.size / median_seconds(lambda: jax.block_until_ready(iterate(params, users)), 1)


# limits ------------------------------------------------------------------------------------------


def limit_rates(states: int, items: int, num_events: int) -> dict[str, float]:
    """Rates of the parts, on arrays of the sizes that drawing and learning use."""
    import jax
    import jax.numpy as jnp

    from recjax.hmm.words import threefry

    num = 65_536 * LENGTH
    counter = jnp.arange(num, dtype=jnp.uint32)
    words = jax.jit(lambda counter: threefry((counter[0], counter[1]), (counter, counter))[0])
    table = jnp.arange(states * items, dtype=jnp.int32)
    index = jax.random.randint(jax.random.key(0), (num,), 0, states * items)
    gather = jax.jit(lambda table, index: table.at[index].get(mode="clip"))
    rows, square = jnp.ones((65_536, states)), jnp.ones((states, states))
    product = jax.jit(lambda rows, square: rows @ square)
    bits = jax.jit(lambda key: jax.random.bits(key, (num,)))

    def rate(run: Callable, *arguments) -> float:
        return num / median_seconds(lambda: jax.block_until_ready(run(*arguments)))

    seconds = median_seconds(lambda: jax.block_until_ready(product(rows, square)))
    return {
        "words_per_second": rate(words, counter),
        "jax_random_bits_words_per_second": rate(bits, jax.random.key(0)),
        "gathers_per_second": rate(gather, table, index),
        "flops_per_second": 2 * 65_536 * states**2 / seconds,
    }


MEASURES: dict[str, Callable[[int, int, int], float | dict[str, float]]] = {
    "recjax_draw": recjax_draw,
    "recjax_draw_kernel": recjax_draw_kernel,
    "recjax_em": recjax_em,
    "hmmlearn_draw": hmmlearn_draw,
    "hmmlearn_em": hmmlearn_em,
    "hmmlearn_log_em": hmmlearn_log_em,
    "dynamax_draw": dynamax_draw,
    "dynamax_em": dynamax_em,
    "limits": limit_rates,
}


def measure(python: str, name: str, states: int, items: int, num_events: int) -> Row | None:
    """Runs one measurement in a process of its own; None where it fails, with the reason shown."""
    command = [python, __file__, "--measure", name, str(states), str(items), str(num_events)]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS)
    except subprocess.TimeoutExpired:
        print(f"  {name} {states} x {items}: not done in {_TIMEOUT_SECONDS} s", flush=True)
        return None
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        print(f"  {name} {states} x {items}: {reason}", flush=True)
        return None
    return json.loads(done.stdout.splitlines()[-1])


def compare(arguments: argparse.Namespace, work: str, states: int, items: int, num: int) -> Row:
    """One row: recjax and both peers on the same work."""
    row: Row = {"work": work, "states": states, "items": items, "events": num}
    for side in ("recjax", "hmmlearn", "dynamax", *(("hmmlearn_log",) if work == "em" else ())):
        python = sys.executable if side == "recjax" else arguments.peer_python
        found = measure(python, f"{side}_{work}", states, items, num)
        row[side] = found and found["value"]
        row[f"{side}_peak_mib"] = found and found["peak_mib"]
    print(json.dumps(row), flush=True)
    return row


def peer_versions(python: str) -> dict[str, str]:
    """Returns the versions of the peers that are installed there."""
    code = """if True:
        import importlib.metadata as m
        names = [d.metadata["Name"] for d in m.distributions()]
        for name in ("hmmlearn", "dynamax"):
            if name in names: print(name, m.version(name))
    """
    lines = subprocess.run([python, "-c", code], capture_output=True, text=True).stdout
    return dict(line.split() for line in lines.splitlines())


def em_events(states: int, items: int) -> int:
    """Events of an `em` row: what the peers do in a minute or two."""
    return {16: 200_000, 64: 200_000, 256: 40_000}[states] // (5 if items > 50_000 else 1)


def run_all(arguments: argparse.Namespace) -> list[Row]:
    """Every row of the record."""
    rows: list[Row] = []
    pairs = [(64, 12_000)] if arguments.quick else [(k, v) for k in STATES for v in ITEMS]
    for states, items in pairs:
        num = 40_000 if arguments.quick else em_events(states, items)
        rows.append(compare(arguments, "draw", states, items, 5_000_000))
        rows.append(compare(arguments, "em", states, items, num))
        limits = measure(sys.executable, "limits", states, items, 0)
        rows.append({"work": "limits", "states": states, "items": items, **limits["value"]})
        print(json.dumps(rows[-1]), flush=True)
    growth = [("draw_kernel", 64, 12_000, 2_000_000)]
    if not arguments.quick:
        growth += [("em", 64, 12_000, num) for num in (50_000, 100_000, 400_000, 800_000)]
        growth += [("em", states, 12_000, 200_000) for states in (8, 32, 128, 256)]
        growth += [("em", 64, items, 200_000) for items in (1_000, 30_000, 300_000)]
        growth += [("draw", 64, items, 5_000_000) for items in (1_000, 30_000, 300_000)]
        growth += [("draw", states, 12_000, 5_000_000) for states in (8, 32, 128)]
        growth += [("draw_kernel", 64, items, 2_000_000) for items in (2_000, 100_000)]
    for work, states, items, num in growth:
        found = measure(sys.executable, f"recjax_{work}", states, items, num)
        row = {"work": f"growth_{work}", "states": states, "items": items, "events": num}
        rows.append({**row, "recjax": found["value"], "recjax_peak_mib": found["peak_mib"]})
        print(json.dumps(rows[-1]), flush=True)
    return rows


def main() -> None:
    """Measures and writes the record; with --measure, one figure to standard output."""
    parser = make_parser(__doc__)
    parser.add_argument("--peer-python", default=sys.executable, help="Python with the peers")
    parser.add_argument("--measure", nargs=4, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure:
        name, *sizes = arguments.measure
        value = MEASURES[name](*map(int, sizes))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps({"value": value, "peak_mib": peak}))
        return
    write_record("hmm_speed", run_all(arguments), arguments, peer_versions(arguments.peer_python))


if __name__ == "__main__":
    main()
