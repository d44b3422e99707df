"""Every head: numbers by hand, parameters by formula, gradient, order of rows and fields, bf16."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.models.ctr import HEADS, CtrConfig, CtrModel, find_head

F, D, V, A, B, X, K, H, T = 3, 4, 11, 8, 6, 2, 5, 2, 3  # X layers, K orders, H heads of width T
N, ROWS = F * D, 6
CROSS, BLOCK, MASK = (7, 5), 9, 2.0
IDS = jnp.array([[r % 3, 3 + (2 * r) % 4, 7 + (3 * r) % 4] for r in range(ROWS)], jnp.int32)

# Gradient and bfloat16 are a compile more for each head: the quick suite takes a few.
QUICK_AND_SLOW = [
    head if head in ("fm", "dcnv2", "finalmlp") else pytest.param(head, marks=pytest.mark.slow)
    for head in HEADS
]

TABLE, LINEAR = V * D, V + 1
M = round(MASK * N)


def tower(n):
    return n * A + A + A * B + B


DEEP = tower(N) + B + 1
LAYER = tower(N) + N + B + 1  # beside cross layers: the tower and one dense layer over both
PARAMETERS = {
    "lr": LINEAR,
    "fm": TABLE + LINEAR,
    "dnn": TABLE + DEEP,
    "wide_deep": TABLE + LINEAR + DEEP,
    "deepfm": TABLE + LINEAR + DEEP,
    "dcn": TABLE + LAYER + X * 2 * N,
    "dcnv2": TABLE + LAYER + X * (N * N + N),
    "gdcn": TABLE + LAYER + X * (2 * N * N + N),
    "xdeepfm": TABLE + LINEAR + DEEP + 7 * F * F + 5 * 7 * F + sum(CROSS) + 1,
    "autoint": TABLE + DEEP + 4 * D * H * T + (X - 1) * 4 * (H * T) ** 2 + F * H * T + 1,
    "finalmlp": TABLE + 2 * (tower(N) + D + D * M + M + M * N + N) + B * B // H + 2 * B + 1,
    "finalnet": TABLE + F * F + F + 2 * (2 * N * 2 * A + 2 * A + A * 2 * B + 2 * B + B + 1),
    "eulernet": TABLE
    + F
    + sum(n * K + 2 * K * D + n * D * K * D + K * D + 2 * D for n in (F, K))
    + 2 * (K * D + 1),
    "masknet": TABLE
    + 2 * D
    + X * (N * M + M + M * N + N + N * BLOCK + 2 * BLOCK)
    + tower(X * BLOCK)
    + B
    + 1,
}


def config_of(head, **changes):
    settings = {
        "embedding_dim": D,
        "hidden_dims": (A, B),
        "num_cross_layers": X,
        "cross_dims": CROSS,
        "num_heads": H,
        "attention_dim": T,
        "num_orders": K,
        "mask_factor": MASK,
        "block_dim": BLOCK,
    }
    return CtrConfig(head=head, num_rows=V, slots=(1,) * F, **(settings | changes))


@pytest.fixture(scope="module", params=list(HEADS))
def made(request):
    """A model, parameters that are far from where a head does nothing, and compiled logits."""
    model, numbers = CtrModel(config_of(request.param)), np.random.default_rng(0)
    boxed = jax.eval_shape(lambda: model.init(jax.random.key(0), IDS, None))["params"]
    shapes = jax.tree.map(unbox, boxed, is_leaf=lambda leaf: hasattr(leaf, "unbox"))
    params = jax.tree.map(
        lambda leaf: jnp.asarray(numbers.normal(0.1, 0.4, leaf.shape), jnp.float32), shapes
    )
    run = jax.jit(lambda params, ids: model.apply({"params": params}, ids, None))
    return request.param, model, params, run


def unbox(leaf):
    return leaf.value if hasattr(leaf, "unbox") else leaf


def test_number_of_parameters_is_that_of_the_formula(made):
    name, _, params, _ = made
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == PARAMETERS[name]


def test_logits_are_those_of_the_paper(made):
    name, _, params, run = made
    x = np.asarray(params["embedding"]["rows"]["table"])[IDS] if "embedding" in params else None
    linear = None
    if "linear" in params:
        linear = np.asarray(params["linear"]["rows"]["table"])[IDS][..., 0]
    head = jax.tree.map(np.asarray, params.get("head", {}))
    expected = BY_HAND[name](head, x, linear)
    np.testing.assert_allclose(run(params, IDS).T.squeeze(), expected, rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("made", QUICK_AND_SLOW, indirect=True)
def test_gradient_is_the_slope(made):
    _, _, params, run = made

    def loss(params):
        return (jnp.tanh(run(params, IDS)) ** 2).mean()

    gradient = jax.jit(jax.grad(loss))(params)
    size = np.sqrt(sum(np.vdot(leaf, leaf) for leaf in jax.tree.leaves(gradient)))
    step = 2e-3
    there = [
        jax.tree.map(lambda p, g: p + way * step * g / size, params, gradient)  # noqa: B023
        for way in (1, -1)
    ]
    ahead, behind = (float(loss(params)) for params in there)
    assert (ahead - behind) / (2 * step) == pytest.approx(float(size), rel=0.03)
    dead = [leaf for leaf in jax.tree.leaves(gradient) if not np.any(leaf)]
    assert not dead, "a parameter that nothing depends on"


def test_rows_do_not_see_each_other_and_order_of_fields_counts_for_some_only(made):
    name, _, params, run = made
    plain = run(params, IDS)
    np.testing.assert_allclose(run(params, IDS[::-1]), plain[::-1], rtol=1e-4, atol=1e-5)
    turned = run(params, IDS[:, ::-1])
    same = np.allclose(turned, plain, rtol=1e-4, atol=1e-5)
    assert same == (name in ("lr", "fm"))


@pytest.mark.parametrize("made", QUICK_AND_SLOW, indirect=True)
def test_bfloat16_computes_about_the_same(made):
    name, model, params, run = made
    short = CtrModel(dataclasses.replace(model.config, dtype="bfloat16"))
    plain, rounded = run(params, IDS), jax.jit(short.apply)({"params": params}, IDS, None)
    assert rounded.dtype == np.float32
    np.testing.assert_allclose(rounded, plain, atol=0.04 * float(np.abs(plain).max()) + 0.02)
    assert name in ("lr", "fm") or not np.array_equal(rounded, plain)


def test_values_scale_rows_and_slots_of_a_field_add_up():
    config = config_of("fm", embedding_dim=2)
    config = dataclasses.replace(config, slots=(2, 1))
    model = CtrModel(config)
    params = model.init(jax.random.key(0), IDS, None)
    both = np.array([[1.0, 0.5, 2.0]] * ROWS, np.float32)
    table = np.asarray(params["params"]["embedding"]["rows"]["table"].value)[IDS]
    weights = np.asarray(params["params"]["linear"]["rows"]["table"].value)[IDS][..., 0]
    first, second = table[:, 0] + 0.5 * table[:, 1], 2 * table[:, 2]
    expected = (first * second).sum(1) + (weights * both).sum(1)
    found = model.apply(params, IDS, jnp.asarray(both))
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-5)
    ones = model.apply(params, IDS, jnp.ones_like(both))
    np.testing.assert_allclose(model.apply(params, IDS, None), ones, rtol=1e-6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"norm": "group"}, "norm = 'group'; it must be one of"),
        ({"dropout_rate": 1.0}, "dropout_rate = 1.0"),
        ({"hidden_dims": ()}, "hidden_dims = "),
        ({"num_heads": 4, "hidden_dims": (6,)}, "num_heads = 4; it must be a divisor of 6"),
    ],
)
def test_setting_out_of_range_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        config_of("finalmlp", **changes)


def test_unknown_head_is_told_with_those_there_are():
    with pytest.raises(ValueError, match="head 'dnm' is unknown; known: lr, fm, dnn"):
        find_head("dnm")


# ---- the papers in numpy: head parameters, fields [B, F, D], linear terms [B, F] -> logits [B]


def affine(layer, x):
    return x @ layer["kernel"] + layer.get("bias", 0)


def relu(x):
    return np.maximum(x, 0)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def layer_norm(layer, x):
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
    return x * layer["scale"] + layer["bias"]


def flat(x):
    return x.reshape(len(x), -1)


def up_the_tower(layers, x):
    for name in sorted(layers):
        x = relu(affine(layers[name], x))
    return x


def deep(head, x):
    return affine(head["logit"], up_the_tower(head["deep"], flat(x)))[:, 0]


def pairs(x):
    return sum((x[:, i] * x[:, j]).sum(1) for i in range(F) for j in range(i))


def wide(head, linear):
    return linear.sum(1) + head["bias"]


def crosses(step):
    def run(head, x, _):
        first = now = flat(x)
        for layer in range(X):
            now = step(head, first, now, layer) + now
        both = np.concatenate([now, up_the_tower(head["deep"], first)], 1)
        return affine(head["logit"], both)[:, 0]

    return run


def dcn_step(head, x0, x, n):
    return (
        np.stack([a * (b @ head[f"cross_{n}"]["kernel"]) for a, b in zip(x0, x, strict=True)])
        + head[f"cross_{n}_bias"]
    )


def dcnv2_step(head, x0, x, n):
    return x0 * affine(head[f"cross_{n}"], x)


def gdcn_step(head, x0, x, n):
    return x0 * affine(head[f"cross_{n}"], x) * sigmoid(affine(head[f"gate_{n}"], x))


def xdeepfm(head, x, linear):
    maps, sums = x, []
    for n, width in enumerate(CROSS):
        kernel, made = head[f"cin_{n}_kernel"], np.zeros((ROWS, width, D))
        for h in range(width):
            for i in range(maps.shape[1]):
                for j in range(F):
                    made[:, h] += kernel[h, i, j] * maps[:, i] * x[:, j]
        maps = made
        sums.append(maps.sum(2))
    cin = affine(head["cin_logit"], np.concatenate(sums, 1))[:, 0]
    return wide(head, linear) + cin + deep(head, x)


def autoint(head, x, _):
    now = x
    for n in range(X):
        query, key, value = (affine(head[f"{part}_{n}"], now) for part in ("query", "key", "value"))
        mixed = np.zeros_like(value)
        for h in range(H):
            part = slice(h * T, (h + 1) * T)
            scores = np.exp(query[..., part] @ key[..., part].swapaxes(1, 2))
            mixed[..., part] = scores / scores.sum(-1, keepdims=True) @ value[..., part]
        now = relu(mixed + affine(head[f"residual_{n}"], now))
    return affine(head["attention_logit"], flat(now))[:, 0] + deep(head, x)


def finalmlp(head, x, _):
    streams = []
    for n in range(2):
        hidden = relu(affine(head[f"gate_{n}_in"], head[f"context_{n}"]))
        gate = 2 * sigmoid(affine(head[f"gate_{n}_out"], hidden))
        streams.append(up_the_tower(head[f"stream_{n}"], flat(x) * gate))
    one, two = streams
    total, size = affine(head["logit"], np.concatenate(streams, 1))[:, 0], B // H
    for h in range(H):
        part = slice(h * size, (h + 1) * size)
        total += ((one[:, part] @ head["bilinear_kernel"][h]) * two[:, part]).sum(1)
    return total


def finalnet(head, x, _):
    gate = head["field_gate"]
    gated = x * (np.einsum("bfd,fg->bgd", x, gate["kernel"]) + gate["bias"][None, :, None])
    streams = []
    for n in range(2):
        now = flat(np.concatenate([x, gated], 1))
        for layer, width in enumerate((A, B)):
            out = affine(head[f"block_{n}_{layer}"], now)
            now = relu(out[:, :width] + out[:, :width] * out[:, width:])
        streams.append(affine(head[f"block_{n}_logit"], now)[:, 0])
    return np.stack(streams)


def masknet(head, x, _):
    normed, blocks = flat(layer_norm(head["field_norm"], x)), []
    for n in range(X):
        mask = affine(head[f"mask_{n}_out"], relu(affine(head[f"mask_{n}_in"], flat(x))))
        out = affine(head[f"block_{n}"], mask * normed)
        blocks.append(relu(layer_norm(head[f"block_{n}_norm"], out)))
    return affine(head["logit"], up_the_tower(head["deep"], np.concatenate(blocks, 1)))[:, 0]


def eulernet(head, x, _):
    now = head["modulus"] * np.exp(1j * x)
    for n in range(X):
        power = np.einsum("bfd,fk->bkd", np.log(np.abs(now)), head[f"orders_{n}_kernel"])
        phase = np.einsum("bfd,fk->bkd", np.angle(now), head[f"orders_{n}_kernel"])
        modulus = np.exp(power + head[f"orders_{n}_log_modulus"])
        crossed = modulus * np.exp(1j * (phase + head[f"orders_{n}_phase"]))
        parts = []
        for part in (np.real, np.imag):
            implicit = relu(affine(head[f"implicit_{n}"], flat(part(now)))).reshape(ROWS, K, D)
            parts.append(layer_norm(head[f"norm_{n}"], part(crossed) + implicit))
        now = parts[0] + 1j * parts[1]
    return (affine(head["logit_0"], flat(now.real)) + affine(head["logit_1"], flat(now.imag)))[:, 0]


BY_HAND = {
    "lr": lambda head, x, linear: wide(head, linear),
    "fm": lambda head, x, linear: wide(head, linear) + pairs(x),
    "dnn": lambda head, x, linear: deep(head, x),
    "wide_deep": lambda head, x, linear: wide(head, linear) + deep(head, x),
    "deepfm": lambda head, x, linear: wide(head, linear) + pairs(x) + deep(head, x),
    "dcn": crosses(dcn_step),
    "dcnv2": crosses(dcnv2_step),
    "gdcn": crosses(gdcn_step),
    "xdeepfm": xdeepfm,
    "autoint": autoint,
    "finalmlp": finalmlp,
    "finalnet": finalnet,
    "eulernet": eulernet,
    "masknet": masknet,
}
