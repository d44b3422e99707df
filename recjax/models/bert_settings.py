"""From transformers' `BertConfig` to `TextConfig` and back.

Called by `recjax.models.pretrained`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from recjax.models.text_bert import TextConfig

if TYPE_CHECKING:
    from transformers import BertConfig

_FIELDS = {  # ours: theirs
    "vocab_size": "vocab_size",
    "num_token_types": "type_vocab_size",
    "pad_id": "pad_token_id",
    "num_layers": "num_hidden_layers",
    "hidden_dim": "hidden_size",
    "num_heads": "num_attention_heads",
    "mlp_dim": "intermediate_size",
    "max_len": "max_position_embeddings",
    "dropout_rate": "hidden_dropout_prob",
    "attention_dropout_rate": "attention_probs_dropout_prob",
    "norm_epsilon": "layer_norm_eps",
}
_ONLY = {  # the one value that is known here; also what an absent key means
    "model_type": "bert",
    "hidden_act": "gelu",
    "position_embedding_type": "absolute",
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}
_FROM_TENSORS = ("architectures", "dtype", "torch_dtype")  # follow from what is written


def to_text_config(settings: BertConfig | Mapping[str, Any]) -> TextConfig:
    """Returns the configuration of a text BERT.

    Args:
        settings: a `BertConfig`, or the JSON object of a config.json; keys that are absent have
            the values of BERT-base, as in transformers.

    Raises:
        ValueError: if the model is not one that `TextBert` is, or a size is no size, naming it.
    """
    given = dict(settings if isinstance(settings, Mapping) else settings.to_dict())
    for key, known in _ONLY.items():
        if given.get(key, known) != known:
            raise ValueError(f"{key} = {given[key]!r} in the settings; only {known!r} is known")
    ours = {name: given.pop(key) for name, key in _FIELDS.items() if key in given}
    for name, value in ours.items():
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number and not (name == "pad_id" and value is None):
            raise ValueError(f"{_FIELDS[name]} = {value!r} in the settings; a number is right")
    others = {key: value for key, value in given.items() if key not in _FROM_TENSORS}
    return TextConfig(**ours, other_settings=json.dumps(others, sort_keys=True))


def to_bert_settings(config: TextConfig) -> dict[str, Any]:
    """Returns the settings in transformers' names: `BertConfig(**settings)` is the same model.

    Raises:
        ValueError: if the configuration is none of BERT's (pre-norm).
    """
    if config.norm != "post":
        raise ValueError(f"norm = {config.norm!r}; a Hugging Face BERT has norm 'post'")
    fixed = {"model_type": "bert", "hidden_act": "gelu"}
    sizes = {key: getattr(config, name) for name, key in _FIELDS.items()}
    return json.loads(config.other_settings) | fixed | sizes
