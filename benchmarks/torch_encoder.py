"""The transformer of recjax in PyTorch, as fast as PyTorch does it: peer of `training_speed.py`.

Same sizes, inputs, loss and optimizer. Padding is spared where PyTorch can: only predicted events
enter the softmax, and causal attention needs no mask, since histories start at the left. Fused
attention, fused AdamW, one matrix product for queries, keys and values; `compiled` runs the encoder
through `torch.compile`. Masked events are drawn beforehand, which recjax does inside of its step.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import nn
from torch.nn import functional

if TYPE_CHECKING:
    from training_speed import Workload

_MASK_ID = 4


class Block(nn.Module):
    """A transformer block with layer norm before each part, float [B, T, D] to the same."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.rate = heads, dropout
        self.attention_norm, self.mlp_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.qkv, self.out = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)
        self.up, self.down = nn.Linear(dim, 4 * dim), nn.Linear(4 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Attends (causally without a mask) and transforms."""
        batch, length, dim = x.shape
        qkv = self.qkv(self.attention_norm(x)).view(batch, length, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        attended = functional.scaled_dot_product_attention(
            query, key, value, attn_mask=mask, dropout_p=self.rate, is_causal=mask is None
        )
        attended = attended.transpose(1, 2).reshape(batch, length, dim)
        x = x + self.dropout(self.out(attended))
        hidden = functional.gelu(self.up(self.mlp_norm(x)), approximate="tanh")
        return x + self.dropout(self.down(hidden))


class Encoder(nn.Module):
    """Items and positions to hidden states; the output layer is the item table."""

    def __init__(self, work: Workload) -> None:
        super().__init__()
        dim = work.hidden_dim
        self.item, self.position = (
            nn.Embedding(work.vocab_size, dim),
            nn.Embedding(work.length, dim),
        )
        self.first_norm, self.last_norm = nn.LayerNorm(dim), nn.LayerNorm(dim)
        self.dropout = nn.Dropout(work.dropout)
        self.blocks = nn.ModuleList(
            Block(dim, work.heads, work.dropout) for _ in range(work.layers)
        )
        for table in (self.item, self.position):
            nn.init.normal_(table.weight, std=0.02)

    def forward(self, items: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
        """Encodes items int64 [B, T] -> float [B, T, D]."""
        x = self.item(items) + self.position.weight[: items.shape[1]]
        x = self.dropout(self.first_norm(x))
        for block in self.blocks:
            x = block(x, mask)
        return self.last_norm(x)


def make_stepper(
    work: Workload, batches: list[dict[str, np.ndarray]], *, compiled: bool
) -> Callable[[], None]:
    """Returns a function that takes one training step.

    Args:
        work: sizes.
        batches: items, segments int32 [B, T], one user a row, gone through in turn.
        compiled: whether the encoder runs through `torch.compile`.
    """
    from training_speed import CLIP_NORM, LEARNING_RATE, WEIGHT_DECAY

    torch.manual_seed(0)
    torch.set_num_threads(1)
    encoder = Encoder(work)
    bias = nn.Parameter(torch.zeros(work.vocab_size))
    parameters = [*encoder.parameters(), bias]
    optimizer = torch.optim.AdamW(
        parameters, lr=LEARNING_RATE, weight_decay=WEIGHT_DECAY, fused=True
    )
    encode = torch.compile(encoder) if compiled else encoder
    examples = [_make_example(work, batch) for batch in batches]
    count = 0

    def take_step() -> None:
        nonlocal count
        items, mask, places, targets = examples[count % len(examples)]
        count += 1
        hidden = encode(items, mask).flatten(0, 1)[places]
        logits = functional.linear(hidden, encoder.item.weight, bias)
        loss = functional.cross_entropy(logits, targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, CLIP_NORM, foreach=True)
        optimizer.step()
        loss.item()

    return take_step


def _make_example(work: Workload, batch: dict[str, np.ndarray]) -> tuple:
    """Items to read, attention mask, flat places [N] that are predicted, and their targets [N]."""
    items, real = batch["items"].astype(np.int64), batch["segments"] > 0
    if work.objective == "next_item":
        asked = np.zeros_like(real)
        asked[:, :-1] = real[:, 1:]
        targets, mask = np.roll(items, -1, axis=1), None
    else:
        asked = _draw_masked(real)
        targets, mask = items, torch.from_numpy(real)[:, None, None, :]
        items = np.where(asked, _MASK_ID, items)
    places = torch.from_numpy(np.flatnonzero(asked))
    return torch.from_numpy(items), mask, places, torch.from_numpy(targets[asked])


def _draw_masked(real: np.ndarray) -> np.ndarray:
    """A fifth of the events of a row, and one where that is none; bool [B, T]."""
    from training_speed import MASK_RATE

    draw = np.where(real, np.random.default_rng(0).random(real.shape), 2.0)
    return (draw < MASK_RATE) | (real & (draw == draw.min(axis=1, keepdims=True)))
