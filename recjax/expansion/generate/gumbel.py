"""One item per row drawn by logits, with the Gumbel-max trick.

Called by the strategies that draw from a neural model, inside of what they compile.

Reference:
    Maddison, Tarlow and Minka (2014), "A* sampling", Sec. 2.
"""

import jax
import jax.numpy as jnp


def draw_by_logits(
    keys: jax.Array, number: jax.Array, logits: jax.Array, *, top_k: int
) -> jax.Array:
    """Returns int32 [B]; row b depends on (keys[b], number) and its own logits alone.

    Args:
        keys: typed PRNG keys [B].
        number: int32 [] or [B], of the draw of a row.
        logits: float32 [B, R], already divided by a temperature; -inf is never drawn.
        top_k: static; only so many likeliest are drawn, 0: all.
    """
    if top_k:
        least = jax.lax.top_k(logits, top_k)[0][:, -1:]
        logits = jnp.where(logits >= least, logits, -jnp.inf)
    numbers = jnp.broadcast_to(number, keys.shape)
    noise = jax.vmap(
        lambda key, number: jax.random.gumbel(jax.random.fold_in(key, number), logits.shape[1:])
    )
    return jnp.argmax(logits + noise(keys, numbers), axis=1).astype(jnp.int32)
