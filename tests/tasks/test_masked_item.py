import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from recjax.losses import CatalogueLoss
from recjax.parallel.rules import flax_rules
from recjax.tasks import MaskedItem

LENGTHS = [[5, 4, 3], [12], [1, 1, 2], [6, 2]]


def _keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def test_masks_follow_rate_and_rule(encoder_config, make_batch):
    task = MaskedItem(encoder_config, mask_rate=0.3)
    batch = make_batch([[12]] * 2000)
    masked, positions, targets, weights = jax.jit(task.mask)(batch, _keys(2000))
    chosen = np.asarray(weights) > 0
    # Independent draws at 0.3, plus the smallest draw where there was none, room for 7.
    counts = np.random.default_rng(0).binomial(12, 0.3, 200_000)
    expected = np.clip(counts, 1, 7).mean()
    assert abs(chosen.sum(axis=1).mean() - expected) < 0.15
    take = np.take_along_axis
    before, after = np.asarray(batch["items"]), np.asarray(masked["items"])
    np.testing.assert_array_equal(targets, take(before, np.asarray(positions), 1))
    seen = take(after, np.asarray(positions), 1)[chosen]
    asked = np.asarray(targets)[chosen]
    assert abs((seen == 4).mean() - 0.8) < 0.02
    assert abs(((seen != 4) & (seen != asked)).mean() - 0.1 * 24 / 25) < 0.015
    assert seen[seen != 4].min() >= 5 and seen.max() < encoder_config.vocab_size


def test_only_chosen_real_events_change_and_gaps_stay(encoder_config, make_batch):
    task, batch = MaskedItem(encoder_config, mask_rate=0.5), make_batch(LENGTHS)
    masked, positions, _, weights = jax.jit(task.mask)(batch, _keys(4))
    chosen = np.zeros((4, 12), bool)
    for row, at in np.argwhere(np.asarray(weights) > 0):
        chosen[row, positions[row, at]] = True
    assert not chosen[np.asarray(batch["segments"]) == 0].any()
    hidden = np.asarray(masked["items"]) == 4
    np.testing.assert_array_equal(np.asarray(masked["actions"]) == 4, hidden)
    for name in ("items", "actions"):
        same = np.asarray(masked[name]) == np.asarray(batch[name])
        assert same[~chosen].all() and not same[hidden].any()
    for name in ("gaps", "positions", "segments"):
        np.testing.assert_array_equal(masked[name], batch[name])


def test_each_segment_has_a_masked_event_and_unknown_items_none(encoder_config, make_batch):
    task, batch = MaskedItem(encoder_config, mask_rate=0.01), make_batch(LENGTHS)
    batch["items"] = batch["items"].at[3, 6:8].set(1)  # a segment of [UNK] only
    batch["weights"] = batch["weights"].at[0, :5].set(0)  # a segment without weight
    _, positions, _, weights = jax.jit(task.mask)(batch, _keys(4))
    positions, weights = np.asarray(positions), np.asarray(weights)
    masked = [
        sorted(
            int(batch["segments"][row, at])
            for at, weight in zip(positions[row], weights[row], strict=True)
            if weight > 0
        )
        for row in range(4)
    ]
    assert masked[:2] + masked[3:] == [[2, 3], [1], [1]]
    assert len(set(masked[2])) == len(masked[2]) == 2  # room for 2 of its 3 segments


def test_mask_depends_on_key_and_row_only_and_without_keys_on_content(encoder_config, make_batch):
    mask = jax.jit(MaskedItem(encoder_config).mask)
    batch, keys = make_batch([[12]] * 4), _keys(4)
    order = jnp.array([3, 0, 2, 1])
    moved = {name: value[order] for name, value in batch.items()}
    for whole_keys, moved_keys in ((keys, keys[order]), (None, None)):
        whole, other = mask(batch, whole_keys), mask(moved, moved_keys)
        jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[order], b), whole, other)
    assert not np.array_equal(mask(batch, _keys(4, 1))[1], mask(batch, keys)[1])
    twins = batch | {"items": jnp.tile(batch["items"][:1], (4, 1)).at[1, 0].add(1)}
    positions = np.asarray(mask(twins, None)[1])
    np.testing.assert_array_equal(positions[0], positions[2])
    assert not np.array_equal(positions[0], positions[1])


def test_loss_equals_the_dense_form_on_masked_events(encoder_config, make_batch, constants, init):
    task, batch = (
        MaskedItem(encoder_config, item_loss=CatalogueLoss(loss_chunk=7)),
        make_batch(LENGTHS),
    )
    params = init(task)
    params["head"]["item_bias"] = jax.random.normal(jax.random.key(1), (30,))

    @jax.jit
    def run(params, batch):
        masked, *rest = task.mask(batch, None)
        hidden = task.encode(params, masked, constants, causal=False)
        return task.loss(params, batch, constants, keys=None, train=False), hidden, *rest

    out, hidden, positions, targets, weights = run(params, batch)
    hidden = jnp.take_along_axis(hidden, positions[..., None], axis=1)
    table, bias = task.item_table(params)
    logits = jnp.einsum("bsd,vd->bsv", hidden, table[5:]) + bias[None, None, 5:]
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(targets - 5, 0))
    np.testing.assert_allclose(out["masked_item"][0], (losses * weights).sum(), rtol=1e-5)
    np.testing.assert_allclose(out["masked_item"][1], weights.sum(), rtol=1e-6)


def test_members_on_eight_devices_equal_single_ones_and_nothing_compiles_twice(
    encoder_config, make_batch, constants, init
):
    task, traces = MaskedItem(encoder_config, item_loss=CatalogueLoss(loss_chunk=8)), []
    batches = [make_batch([[5, 4, 3], [12]] * 8, seed=seed) for seed in range(2)]
    keys = _keys(32).reshape(2, 16)
    params = [init(task, seed) for seed in range(2)]

    def loss_and_gradient(params, batch, keys):
        def mean(params):
            total, weight = task.loss(params, batch, constants, keys=keys, train=True)[task.name]
            return total / weight

        traces.append(1)
        return jax.value_and_grad(mean)(params)

    step, members = jax.jit(loss_and_gradient), jax.jit(jax.vmap(loss_and_gradient))
    single = [step(*arguments) for arguments in zip(params, batches, keys, strict=True)]
    assert len(traces) == 1
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    rows, whole = NamedSharding(mesh, P(None, "data")), NamedSharding(mesh, P())
    stacked = [jax.tree.map(lambda *parts: jnp.stack(parts), *pair) for pair in (params, batches)]
    placed = (jax.device_put(stacked[0], whole), *jax.device_put((stacked[1], keys), rows))
    with jax.set_mesh(mesh), nn.logical_axis_rules(flax_rules(mesh)):
        compiled = members.lower(*placed).compile()
    assert "all-gather" not in compiled.as_text()  # rows stay where they are
    sharded = compiled(*placed)
    for member in range(2):
        part = jax.tree.map(lambda x: x[member], sharded)  # noqa: B023 (used at once)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), part, single[member])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(single))


@pytest.mark.parametrize(
    ("change", "message"),
    [({"mask_rate": 0.0}, "mask_rate"), ({"mask_share": 0.95}, "shares")],
)
def test_shares_out_of_range_are_named(encoder_config, change, message):
    with pytest.raises(ValueError, match=message):
        MaskedItem(encoder_config, **change)
