import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.expansion.on_device import Adversary

INPUTS = jnp.asarray(np.random.default_rng(0).normal(size=(5, 2, 3)), jnp.float32)
AWAY = jnp.asarray(np.random.default_rng(1).normal(size=(5, 2, 3)), jnp.float32)


def linear(shift):
    return (AWAY * shift).sum()


def curved(shift):
    return -jnp.square(INPUTS + shift - AWAY).sum() / 10


def norms(x):
    return jnp.sqrt(jnp.square(x).sum(axis=(1, 2)))


def test_fgm_goes_along_the_gradient_as_far_as_asked():
    shift = Adversary("fgm", size=0.2).shift(linear, INPUTS)
    np.testing.assert_allclose(norms(shift), 0.2 * norms(INPUTS), rtol=1e-5)
    along = (shift * AWAY).sum(axis=(1, 2)) / norms(shift) / norms(AWAY)
    np.testing.assert_allclose(along, 1, rtol=1e-5)


def test_pgd_stays_in_the_ball_and_finds_more_than_one_step():
    size = 1.5
    one, many = (Adversary(m, size=size, steps=10).shift(curved, INPUTS) for m in ("fgm", "pgd"))
    assert (norms(many) <= size * norms(INPUTS) * (1 + 1e-5)).all()
    assert curved(many) > curved(one)
    straight = [Adversary(method, size=0.2).shift(linear, INPUTS) for method in ("pgd", "fgm")]
    np.testing.assert_allclose(*straight, rtol=1e-4)


def test_row_without_slope_stays_and_the_shift_has_no_gradient():
    shift = Adversary("fgm").shift(lambda s: linear(s.at[2].set(0)), INPUTS)
    assert not np.any(shift[2]) and np.any(shift[1])
    run = jax.grad(lambda x: Adversary("fgm").shift(linear, x).sum())
    assert not np.any(run(INPUTS))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"method": "free"}, "method = 'free'; known: none, fgm, pgd"), ({"size": -1}, "size = -1")],
)
def test_wrong_setting_is_named(settings, message):
    with pytest.raises(ValueError, match=message):
        Adversary(**settings)
