"""Heads of several outcomes: numbers by hand, parameters by formula, gradient, bf16."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from recjax.models.ctr import OUTCOME_HEADS, CtrConfig, CtrModel

F, D, V, A, B, C, K, E, L = 3, 4, 11, 8, 6, 5, 3, 2, 2  # C outcome tower, E experts, L levels
N, ROWS = F * D, 6
IDS = jnp.array([[r % 3, 3 + (2 * r) % 4, 7 + (3 * r) % 4] for r in range(ROWS)], jnp.int32)


def tower(n):
    return n * A + A + A * B + B


OUTCOMES = K * (B * C + C + C + 1)
PARAMETERS = {
    "shared_bottom": tower(N),
    "mmoe": E * tower(N) + K * N * E,
    "ple": (K + 1) * E * (tower(N) + tower(B)) + (N + B) * K * 2 * E + N * (K + 1) * E,
    "esmm": K * tower(N),
    "aitm": K * tower(N) + (K - 1) * (B * B + B + 3 * B * B),
}


def config_of(head, **changes):
    settings = {
        "embedding_dim": D,
        "hidden_dims": (A, B),
        "tower_dims": (C,),
        "num_outcomes": K,
        "num_experts": E,
        "num_levels": L,
    }
    return CtrConfig(head=head, num_rows=V, slots=(1,) * F, **(settings | changes))


@pytest.fixture(scope="module", params=list(OUTCOME_HEADS))
def made(request):
    """A head, a model, parameters that are far from where it does nothing, compiled logits."""
    model, numbers = CtrModel(config_of(request.param)), np.random.default_rng(0)
    boxed = jax.eval_shape(lambda: nn.unbox(model.init(jax.random.key(0), IDS, None)["params"]))
    params = jax.tree.map(lambda leaf: jnp.asarray(numbers.normal(0, 0.5, leaf.shape)), boxed)
    return (
        request.param,
        model,
        params,
        jax.jit(lambda p, ids: model.apply({"params": p}, ids, None)),
    )


def test_number_of_parameters_is_that_of_the_formula(made):
    name, _, params, _ = made
    expected = V * D + PARAMETERS[name] + OUTCOMES
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == expected


def test_logits_are_those_of_the_paper(made):
    name, _, params, run = made
    head = jax.tree.map(np.asarray, params["head"])
    x = np.asarray(params["embedding"]["rows"]["table"])[IDS].reshape(ROWS, N)
    logits = []
    for k, vector in enumerate(READ[name](head, x)):
        logits.append(affine(head[f"logit_{k}"], climb(head[f"outcome_{k}"], vector))[:, 0])
    expected = np.stack(logits, 1)
    if name == "esmm":
        chances = np.cumprod(1 / (1 + np.exp(-expected)), axis=1)
        expected = np.log(chances / (1 - chances))
    np.testing.assert_allclose(run(params, IDS), expected, rtol=5e-4, atol=5e-5)


@pytest.mark.slow
def test_gradient_is_the_slope_and_nothing_is_dead(made):
    _, _, params, run = made

    def loss(params):
        return (jnp.tanh(run(params, IDS)) ** 2).mean()

    gradient = jax.jit(jax.grad(loss))(params)
    size = float(np.sqrt(sum(np.vdot(leaf, leaf) for leaf in jax.tree.leaves(gradient))))
    ahead, behind = (
        float(loss(jax.tree.map(lambda p, g: p + way * 2e-3 * g / size, params, gradient)))  # noqa: B023
        for way in (1, -1)
    )
    assert (ahead - behind) / 4e-3 == pytest.approx(size, rel=0.03)
    assert all(np.any(leaf) for leaf in jax.tree.leaves(gradient))


def test_rows_do_not_see_each_other(made):
    _, _, params, run = made
    np.testing.assert_allclose(run(params, IDS[::-1]), run(params, IDS)[::-1], atol=1e-4)


@pytest.mark.slow
def test_bfloat16_computes_about_the_same(made):
    _, model, params, run = made
    short = CtrModel(dataclasses.replace(model.config, dtype="bfloat16"))
    plain, rounded = run(params, IDS), short.apply({"params": params}, IDS, None)
    assert rounded.dtype == np.float32 and not np.array_equal(rounded, plain)
    np.testing.assert_allclose(rounded, plain, atol=0.04 * float(np.abs(plain).max()) + 0.04)


def test_product_of_chances_stays_finite_at_the_ends():
    head = OUTCOME_HEADS["esmm"](config_of("esmm"))
    logits = jnp.array([[80.0, 80.0, 80.0], [-80.0, 80.0, -80.0], [0.0, 0.0, 0.0]])
    found = head.combine(logits)
    assert np.isfinite(found).all() and (np.diff(found, axis=1) <= 0).all()
    np.testing.assert_allclose(jax.nn.sigmoid(found[2]), [0.5, 0.25, 0.125], rtol=1e-6)


# ---- the papers in numpy: head parameters, fields [B, N] -> a vector [B, W] for each outcome


def affine(layer, x):
    return x @ layer["kernel"] + layer.get("bias", 0)


def relu(x):
    return np.maximum(x, 0)


def climb(layers, x):
    for name in sorted(layers):
        x = relu(affine(layers[name], x))
    return x


def softmax(x, axis=-1):
    x = np.exp(x - x.max(axis, keepdims=True))
    return x / x.sum(axis, keepdims=True)


def mix(gate, x, experts):
    shares = softmax(x @ gate["kernel"])
    return sum(share[:, None] * expert for share, expert in zip(shares.T, experts, strict=True))


def mmoe(head, x):
    experts = [climb(head[f"expert_{i}"], x) for i in range(E)]
    return [mix(head[f"gate_{k}"], x, experts) for k in range(K)]


def ple(head, x):
    inputs = [x] * (K + 1)  # the last is what shared experts read
    for n in range(L):
        experts = [
            [climb(head[f"level_{n}_expert_{k}_{i}"], inputs[k]) for i in range(E)]
            for k in range(K + 1)
        ]
        made = [
            mix(head[f"level_{n}_gate_{k}"], inputs[k], experts[k] + experts[K]) for k in range(K)
        ]
        if n == L - 1:
            return made
        shared = mix(head[f"level_{n}_gate_shared"], inputs[K], sum(experts, []))
        inputs = [*made, shared]


def aitm(head, x):
    vectors = [climb(head["bottom_0"], x)]
    for k in range(1, K):
        handed = relu(affine(head[f"info_{k}"], vectors[-1]))
        pair = [handed, climb(head[f"bottom_{k}"], x)]
        part = {
            p: [v @ head[f"{p}_{k}"]["kernel"] for v in pair] for p in ("value", "key", "query")
        }
        scores = [
            (a * b).sum(1) / np.sqrt(B) for a, b in zip(part["key"], part["query"], strict=True)
        ]
        shares = softmax(np.stack(scores, 1))
        vectors.append(shares[:, :1] * part["value"][0] + shares[:, 1:] * part["value"][1])
    return vectors


READ = {
    "shared_bottom": lambda head, x: [climb(head["bottom"], x)] * K,
    "mmoe": mmoe,
    "ple": ple,
    "esmm": lambda head, x: [climb(head[f"bottom_{k}"], x) for k in range(K)],
    "aitm": aitm,
}
