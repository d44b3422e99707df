"""Speed and memory of training steps beside a PyTorch encoder of the same size and batch.

    python benchmarks/training_speed.py [--quick] [--output FILE]

`step` rows: one real training step (forward, backward, clipping, AdamW) on histories of a shop's
lengths. `recjax` and the two PyTorch columns train on the same padded batch, PyTorch in its two
best forms (see `torch_encoder.py`); `packed` is recjax with several users in a row, as it trains.
Tokens are real events, padding is not counted. Every side is a process of its own on one and the
same core; they take turns, a few steps each, and the median turn counts. Memory is the peak
of the process, compiling included, above what it held before its model was made. After the base
come rows that change one size of it, so that costs can be read down a column.
`loss` rows: bytes that the compiled gradient of the full softmax needs beside its arguments and
results, chunk by chunk as recjax does it and dense.

PyTorch is looked for in this Python (`pip install torch`); without it its columns are null.
"""

from __future__ import annotations

import dataclasses
import functools
import importlib.metadata
import importlib.util
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from records import Row, make_parser, write_record
from turns import take_turns

from recjax.data.loading import TrainBatches
from recjax.data.record_sources import ListSource
from recjax.data.transforms import Batch
from recjax.data.vocabulary import NUM_SPECIALS

MASK_RATE, WEIGHT_DECAY, CLIP_NORM, LEARNING_RATE = 0.2, 0.01, 1.0, 1e-3
MEAN_EVENTS = 9  # of a user; the Amazon sets have 8 to 9
NUM_BATCHES = 4  # made beforehand and gone through again and again
SIDES = ("recjax", "packed", "torch", "torch_compiled")


@dataclasses.dataclass(frozen=True)
class Workload:
    """Sizes of one training; a row holds `length` events at most, `batch` rows."""

    objective: str
    hidden_dim: int = 64
    layers: int = 2
    length: int = 50
    batch: int = 128
    items: int = 12_101
    dropout: float = 0.2

    @property
    def heads(self) -> int:
        """Attention heads."""
        return max(2, self.hidden_dim // 64)

    @property
    def vocab_size(self) -> int:
        """Item ids, the specials included."""
        return NUM_SPECIALS + self.items


CHANGES = ({"length": 200}, {"hidden_dim": 256}, {"items": 50_000})
TURNS, TURNS_OF_A_CHANGE, QUICK_TURNS = 12, 3, 2  # of NUM_BATCHES steps each


def make_workloads(quick: bool) -> Iterator[tuple[Workload, int]]:
    """Yields the sizes to measure, and how many turns each side has."""
    sizes = {"hidden_dim": 16, "layers": 1, "length": 20, "batch": 8, "items": 200} if quick else {}
    base = Workload("next_item", **sizes)
    for work in (Workload("masked_item", **sizes), base):
        yield work, QUICK_TURNS if quick else TURNS
    if not quick:
        for change in CHANGES:
            yield dataclasses.replace(base, **change), TURNS_OF_A_CHANGE


def make_batches(work: Workload, pack: bool) -> list[Batch]:
    """Batches without member axis, int32 and float32 [B, T]."""
    rng = np.random.default_rng(0)
    sequences = [_make_record(rng, user, work) for user in range(40 * work.batch)]
    dataset = TrainBatches(
        [[ListSource(sequences)]],
        pack=pack,
        batch_size=work.batch,
        max_len=work.length,
        num_gap_bins=8,
        seeds=[0],
    )
    batches = iter(dataset)
    return [{name: x[0] for name, x in next(batches).items()} for _ in range(NUM_BATCHES)]


def _make_record(rng: np.random.Generator, user: int, work: Workload) -> dict:
    length = min(4 + int(rng.geometric(1 / (MEAN_EVENTS - 4))), work.length)
    zipf = np.exp(rng.uniform(0, np.log(work.items), length)).astype(np.int32) - 1
    zeros = np.zeros(length, np.int32)
    return {
        "user": user,
        "items": NUM_SPECIALS + zipf,
        "actions": zeros,
        "times": np.arange(length, dtype=np.int64),
        "sessions": zeros,
        "weight": np.float32(1),
        "source": 0,
    }


# recjax ------------------------------------------------------------------------------------------


def recjax_stepper(work: Workload, pack: bool) -> Callable[[], None]:
    """A function that takes one training step of recjax and waits for it."""
    import jax
    import jax.numpy as jnp

    from recjax.models import EncoderConfig
    from recjax.optim import OptimizerConfig, make_optimizer
    from recjax.parallel import make_engine
    from recjax.step import create_state, make_train_step
    from recjax.tasks import MaskedItem, NextItem

    encoder = EncoderConfig(
        vocab_size=work.vocab_size,
        num_actions=1,
        num_gap_bins=8,
        num_categories=1,
        inputs=("item", "position"),
        num_layers=work.layers,
        hidden_dim=work.hidden_dim,
        num_heads=work.heads,
        mlp_dim=4 * work.hidden_dim,
        max_len=work.length,
        dropout_rate=work.dropout,
        attention_dropout_rate=work.dropout,
    )
    masked = work.objective == "masked_item"
    task = MaskedItem(encoder, mask_rate=MASK_RATE) if masked else NextItem(encoder)
    engine = make_engine("jit", {"data": -1})
    optimizer = make_optimizer(
        OptimizerConfig(
            optimizer="adamw",
            learning_rate=LEARNING_RATE,
            schedule="constant",
            warmup_steps=0,
            num_steps=1000,
            weight_decay=WEIGHT_DECAY,
            clip_norm=CLIP_NORM,
            beta2=0.999,
        )
    )
    seeds, logical = jnp.zeros(1, "uint32"), task.logical_axes()
    params = jax.vmap(lambda seed: task.init(jax.random.key(seed), {}))
    state = engine.compile_once(
        lambda: create_state(params(seeds), seeds, optimizer=optimizer), logical
    )()
    step = engine.compile_step(make_train_step(task, optimizer, engine.axis_name), logical)
    members = [{k: v[None] for k, v in b.items()} for b in make_batches(work, pack)]
    batches = [engine.put_member_batch(batch) for batch in members]
    constants = engine.put_constants({})
    count = 0

    def take_step() -> None:
        nonlocal state, count
        state, metrics = step(state, batches[count % NUM_BATCHES], constants)
        count += 1
        jax.block_until_ready((state, metrics))

    return take_step


def loss_memory(items: int, tokens: int, dim: int, chunk: int) -> Row:
    """Temporary MiB of the gradient of the full softmax, in chunks and dense."""
    import jax
    import jax.numpy as jnp

    from recjax.losses import chunked_cross_entropy

    def dense(hidden: jax.Array, table: jax.Array, targets: jax.Array) -> jax.Array:
        logits = jax.nn.log_softmax(hidden @ table.T)
        return -jnp.take_along_axis(logits, targets[:, None], 1).sum()

    def chunked(hidden: jax.Array, table: jax.Array, targets: jax.Array) -> jax.Array:
        ones = jnp.ones(len(targets))
        return chunked_cross_entropy(hidden, table, None, targets, ones, chunk=chunk)[0]

    shapes = [(tokens, dim), (items, dim)]
    abstract = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    abstract.append(jax.ShapeDtypeStruct((tokens,), jnp.int32))
    row: Row = {"work": "loss", "items": items, "tokens": tokens, "hidden_dim": dim}
    for name, loss in (("chunked", chunked), ("dense", dense)):
        compiled = jax.jit(jax.grad(loss, argnums=(0, 1))).lower(*abstract).compile()
        row[f"{name}_mib"] = compiled.memory_analysis().temp_size_in_bytes / 2**20
    return row | {"table_mib": items * dim * 4 / 2**20}


# One process a side ------------------------------------------------------------------------------


def make_stepper(side: str, work: Workload) -> Callable[[], None]:
    """The function that takes one step of a side."""
    if side in ("recjax", "packed"):
        return recjax_stepper(work, pack=side == "packed")
    import torch_encoder

    compiled = side == "torch_compiled"
    return torch_encoder.make_stepper(work, make_batches(work, pack=False), compiled=compiled)


def import_side(side: str) -> None:
    """Loads the libraries of a side, so that they do not count as memory of the training."""
    if side.startswith("torch"):
        import torch_encoder  # noqa: F401
    else:
        import recjax.parallel
        import recjax.tasks  # noqa: F401


def measure(work: Workload, sides: tuple[str, ...], num_turns: int) -> Row:
    """Returns the row of one workload; sides take turns."""
    turns = {"warm_up": NUM_BATCHES, "steps": NUM_BATCHES, "rounds": num_turns}
    return _row(work, *take_turns(sides, work, load=import_side, make=make_stepper, **turns))


def _row(work: Workload, seconds: dict[str, float], peaks: dict[str, float]) -> Row:
    row: Row = {"work": "step", **dataclasses.asdict(work)}
    tokens = {pack: _real_tokens(work, pack) for pack in (False, True)}
    row |= {"padded_tokens": tokens[False], "packed_tokens": tokens[True]}
    for side in SIDES:
        known = side in seconds
        row[f"{side}_ms"] = 1e3 * seconds[side] if known else None
        rate = tokens[side == "packed"] / seconds[side] if known else None
        row[f"{side}_tokens_per_second"] = rate
        row[f"{side}_gib"] = peaks.get(side)
    peers = [seconds[side] for side in seconds if side.startswith("torch")]
    if peers:
        best = min(peers)
        row["torch_over_recjax_padded"] = best / seconds["recjax"]
        row["packed_over_torch_tokens"] = row["packed_tokens_per_second"] * best / tokens[False]
    return row


@functools.cache
def _real_tokens(work: Workload, pack: bool) -> float:
    """Events of a mean batch."""
    return float(np.mean([(b["segments"] > 0).sum() for b in make_batches(work, pack)]))


def main() -> None:
    """Measures all sizes and writes them."""
    arguments = make_parser(__doc__).parse_args()
    found = importlib.util.find_spec("torch") is not None
    sides = SIDES if found else SIDES[:2]
    if not found:
        print("no PyTorch in this Python: its columns stay null")
    rows = []
    for work, num_turns in make_workloads(arguments.quick):
        rows.append(measure(work, sides, num_turns))
        print(json.dumps(rows[-1]), flush=True)
    for items in (1_000, 2_000) if arguments.quick else (10_000, 100_000, 1_000_000):
        rows.append(loss_memory(items, tokens=2_048, dim=64, chunk=1_024))
        print(json.dumps(rows[-1]), flush=True)
    versions = {"torch": importlib.metadata.version("torch")} if found else {}
    write_record("training_speed", rows, arguments, versions)


if __name__ == "__main__":
    main()
