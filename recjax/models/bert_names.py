"""Which tensor of a Hugging Face BERT is which parameter of `TextBert`; names and shapes only.

Called by `recjax.models.bert_tensors`.
"""

import dataclasses

import numpy as np

from recjax.models.text_bert import HEADS, TextConfig


@dataclasses.dataclass(frozen=True)
class Entry:
    """One tensor.

    Attributes:
        name: Hugging Face's, without "bert.".
        path: keys of our parameter.
        shape: of the tensor.
        whole: shape of our parameter.
        part: which part of it is meant: query, key or value (0, 1, 2), or None for all of it.
        is_kernel: whether the tensor is [out, in] and ours [in, out].
    """

    name: str
    path: tuple[str, ...]
    shape: tuple[int, ...]
    whole: tuple[int, ...]
    part: int | None = None
    is_kernel: bool = False

    @property
    def group(self) -> str:
        """What must be there as a whole: "encoder" or one of `HEADS`."""
        return self.path[0] if self.path[0] in HEADS else "encoder"

    def view(self, parameter: np.ndarray) -> np.ndarray:
        """Returns the part of our parameter [*whole] that is meant."""
        if self.part is None:
            return parameter
        return parameter[self.part] if parameter.ndim == 3 else parameter[:, self.part]


def layout(config: TextConfig) -> list[Entry]:
    """Returns the tensors of BertForPreTraining, in the order of transformers."""
    width, vocab = config.hidden_dim, config.vocab_size
    tables = {"word": vocab, "position": config.max_len, "token_type": config.num_token_types}
    entries = [
        Entry(f"embeddings.{name}_embeddings.weight", ("embedding", name, "table"), shape, shape)
        for name, rows in tables.items()
        for shape in [(rows, width)]
    ]
    entries += _norm("embeddings.LayerNorm", ("embedding_norm",), width)
    for number in range(config.num_layers):
        entries += _layer(config, f"encoder.layer.{number}", f"layers_{number}")
    entries += _linear("pooler.dense", ("pooler", "dense"), width, width)
    head = "cls.predictions"
    entries.append(Entry(f"{head}.bias", ("masked_token", "bias"), (vocab,), (vocab,)))
    entries += _linear(f"{head}.transform.dense", ("masked_token", "transform"), width, width)
    entries += _norm(f"{head}.transform.LayerNorm", ("masked_token", "norm"), width)
    return entries + _linear("cls.seq_relationship", ("next_sentence",), width, 2)


def _layer(config: TextConfig, theirs: str, ours: str) -> list[Entry]:
    width, wide, heads = config.hidden_dim, config.mlp_dim, config.num_heads
    split = (heads, width // heads)
    entries, joined = [], (ours, "attention", "query_key_value")
    for part, name in enumerate(("query", "key", "value")):
        name = f"{theirs}.attention.self.{name}"
        kernel, bias = (*joined, "kernel"), (*joined, "bias")
        entries += [
            Entry(f"{name}.weight", kernel, (width, width), (width, 3, *split), part, True),
            Entry(f"{name}.bias", bias, (width,), (3, *split), part),
        ]
    output = _linear(
        f"{theirs}.attention.output.dense", (ours, "attention", "output"), width, width
    )
    output[0] = dataclasses.replace(output[0], whole=(*split, width))
    return [
        *entries,
        *output,
        *_norm(f"{theirs}.attention.output.LayerNorm", (ours, "attention_norm"), width),
        *_linear(f"{theirs}.intermediate.dense", (ours, "mlp_in"), width, wide),
        *_linear(f"{theirs}.output.dense", (ours, "mlp_out"), wide, width),
        *_norm(f"{theirs}.output.LayerNorm", (ours, "mlp_norm"), width),
    ]


def _linear(theirs: str, ours: tuple[str, ...], inputs: int, outputs: int) -> list[Entry]:
    return [
        Entry(
            f"{theirs}.weight",
            (*ours, "kernel"),
            (outputs, inputs),
            (inputs, outputs),
            is_kernel=True,
        ),
        Entry(f"{theirs}.bias", (*ours, "bias"), (outputs,), (outputs,)),
    ]


def _norm(theirs: str, ours: tuple[str, ...], width: int) -> list[Entry]:
    return [
        Entry(f"{theirs}.weight", (*ours, "scale"), (width,), (width,)),
        Entry(f"{theirs}.bias", (*ours, "bias"), (width,), (width,)),
    ]
