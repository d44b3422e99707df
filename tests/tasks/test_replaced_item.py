import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from recjax.tasks import ReplacedItem

LENGTHS = [[5, 4, 3], [12], [1, 1, 2]]


def _keys(count, seed=0):
    return jax.random.split(jax.random.key(seed), count)


def test_marks_tell_exactly_which_items_are_other_ones(encoder_config, make_batch):
    task, batch = ReplacedItem(encoder_config, replaced_share=0.4), make_batch([[12]] * 2000)
    batch["items"] = batch["items"].at[:, 3].set(1)  # [UNK] is left alone
    spoiled, replaced = jax.jit(task.replace)(batch, _keys(2000))
    before, after = np.asarray(batch["items"]), np.asarray(spoiled["items"])
    np.testing.assert_array_equal(replaced, before != after)
    assert not np.asarray(replaced)[:, 3].any()
    known = np.asarray(replaced)[:, [0, 1, 2, *range(4, 12)]]
    # A draw out of 25 items equals the original every 25th time.
    assert known.mean() == pytest.approx(0.4 * 24 / 25, abs=0.01)
    assert after[np.asarray(replaced)].min() >= 5 and after.max() < encoder_config.vocab_size
    for name in ("actions", "gaps", "positions", "segments"):
        np.testing.assert_array_equal(batch[name], spoiled[name])


def test_proposal_share_and_keys_count(encoder_config, make_batch):
    batch = make_batch([[12]] * 500)
    drawn = {}
    for proposal in ("uniform", "log_uniform"):
        task = ReplacedItem(encoder_config, replaced_share=0.5, proposal=proposal)
        spoiled, replaced = task.replace(batch, _keys(500))
        drawn[proposal] = np.asarray(spoiled["items"])[np.asarray(replaced)]
    assert (drawn["log_uniform"] == 5).mean() > 3 * (drawn["uniform"] == 5).mean()
    few = ReplacedItem(encoder_config, replaced_share=0.1).replace(batch, _keys(500))[1]
    assert few.mean() == pytest.approx(0.1, abs=0.02)
    without = [task.replace(batch, None)[0]["items"] for _ in range(2)]
    np.testing.assert_array_equal(*without)
    assert not np.array_equal(without[0], batch["items"])


@pytest.mark.parametrize("causal", [True, False])
def test_loss_equals_the_dense_form(encoder_config, make_batch, constants, causal):
    task, batch = ReplacedItem(encoder_config, causal=causal), make_batch(LENGTHS)
    batch["items"] = batch["items"].at[1, 3].set(1)
    params, keys = jax.jit(task.init)(jax.random.key(0)), _keys(3)

    @jax.jit
    def run(params, batch):
        spoiled, replaced = task.replace(batch, keys)
        hidden = task.encode(params, spoiled, constants, causal=causal)
        return task.loss(params, batch, constants, keys=keys, train=False), hidden, replaced

    out, hidden, replaced = run(params, batch)
    kernel, bias = (params["head"]["dense"][name] for name in ("kernel", "bias"))
    logits = (hidden @ kernel + bias[None, None])[..., 0]
    losses = optax.sigmoid_binary_cross_entropy(logits, replaced.astype(jnp.float32))
    weights = batch["weights"].at[1, 3].set(0)
    np.testing.assert_allclose(out[task.name][0], (losses * weights).sum(), rtol=1e-5)
    np.testing.assert_allclose(out[task.name][1], weights.sum(), rtol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"replaced_share": 0.0}, "replaced_share"), ({"proposal": "zipf"}, "proposal must be one")],
)
def test_settings_out_of_range_are_named(encoder_config, change, message):
    with pytest.raises(ValueError, match=message):
        ReplacedItem(encoder_config, **change)
