"""Moves numbers between the tensors of a Hugging Face BERT and a parameter tree, bit for bit.

No files here. Called by `recjax.models.pretrained`.
"""

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from recjax.models.bert_names import Entry, layout
from recjax.models.text_bert import TextConfig

_OLD_NAMES = {"LayerNorm.gamma": "LayerNorm.weight", "LayerNorm.beta": "LayerNorm.bias"}
_BUFFERS = ("embeddings.position_ids",)  # 0, 1, 2, ...; written by transformers before version 4.31
_TIES = {  # second names of one tensor, written by some versions
    "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
    "cls.predictions.decoder.bias": "cls.predictions.bias",
}


def plain_names(names: Iterable[str]) -> dict[str, str]:
    """Returns {our name for it: name in the file}; "bert." is off, old names are made new.

    Raises:
        ValueError: if two tensors come to one name.
    """
    found: dict[str, str] = {}
    for name in sorted(names):
        plain = name.removeprefix("bert.")
        for old, new in _OLD_NAMES.items():
            plain = plain.replace(old, new)
        if plain in found:
            raise ValueError(f"tensors {found[plain]} and {name} are the same parameter")
        found[plain] = name
    return found


def groups_present(config: TextConfig, names: Iterable[str]) -> set[str]:
    """Checks that the named tensors are a whole BERT, with whole heads or none.

    Args:
        config: says which tensors there should be.
        names: plain names of what there is.

    Returns:
        "encoder" and those of `HEADS` that are there.

    Raises:
        ValueError: if a tensor is unknown or missing, naming each.
    """
    second_names = _TIES.keys() & set(names)
    names, known = set(names) - {*_BUFFERS, *_TIES}, layout(config)
    unknown = names - {entry.name for entry in known}
    present = {entry.group for entry in known if entry.name in names} | {"encoder"}
    if second_names:
        present.add("masked_token")
    if "next_sentence" in present:
        present.add("pooler")
    wanted = [entry.name for entry in known if entry.group in present]
    missing = [name for name in wanted if name not in names]
    if unknown or missing:
        raise ValueError(
            f"unexpected tensors: {_listed(sorted(unknown))}; missing tensors: {_listed(missing)}; "
            f"right for {config.num_layers} layers are those of BertModel, BertForMaskedLM or "
            "BertForPreTraining, with or without 'bert.' before the name"
        )
    return present


def to_params(config: TextConfig, read: Callable[[str], np.ndarray], names: set[str]) -> Any:
    """Returns parameters float32 [...] of the tensors that `read` gives by plain name.

    Raises:
        ValueError: if tensors are unknown or missing, or a shape or type is wrong, naming it.
    """
    present = groups_present(config, names)
    params: dict[str, Any] = {}
    for entry in layout(config):
        if entry.group in present:
            tensor = _checked(entry, read(entry.name))
            parameter = _leaf(params, entry)
            view = entry.view(parameter)
            view[...] = (tensor.T if entry.is_kernel else tensor).reshape(view.shape)
    for second in sorted(names & set(_TIES)):
        if not np.array_equal(read(second), read(_TIES[second]), equal_nan=True):
            raise ValueError(
                f"{second} differs from {_TIES[second]}: only models with tied output weights "
                "(tie_word_embeddings) are known here"
            )
    return params


def to_tensors(config: TextConfig, params: Any) -> dict[str, np.ndarray]:
    """Returns {plain name: tensor float32 [...]} of a text BERT's parameters.

    Raises:
        ValueError: if a parameter is unknown, missing or of another shape or type, naming it.
    """
    leaves = _leaves(params)
    entries = [entry for entry in layout(config) if entry.group in {"encoder", *params}]
    known = {entry.path: entry for entry in entries}
    wrong = ["/".join(path) for path in sorted(leaves.keys() ^ known.keys())]
    if wrong:
        raise ValueError(f"parameters unknown or missing for this configuration: {_listed(wrong)}")
    tensors = {}
    for entry in entries:
        parameter = np.asarray(leaves[entry.path])
        if parameter.shape != entry.whole or parameter.dtype != np.float32:
            raise ValueError(
                f"parameter {'/'.join(entry.path)} is {parameter.dtype} {parameter.shape}; "
                f"this configuration has float32 {entry.whole}"
            )
        view = entry.view(parameter)
        tensor = view.reshape(entry.shape[::-1]).T if entry.is_kernel else view
        tensors[entry.name] = np.ascontiguousarray(tensor.reshape(entry.shape))
    return tensors


def _checked(entry: Entry, tensor: np.ndarray) -> np.ndarray:
    """Returns the tensor as float32; half precision is widened, which is exact."""
    if tensor.shape != entry.shape:
        raise ValueError(
            f"tensor {entry.name} is {tensor.shape}; config.json makes it {entry.shape}"
        )
    if tensor.dtype not in (np.float32, np.float16):
        raise ValueError(f"tensor {entry.name} is {tensor.dtype}; float32 or float16 is right")
    return tensor.astype(np.float32, copy=False)


def _leaf(params: dict[str, Any], entry: Entry) -> np.ndarray:
    """Returns the parameter an entry belongs to; the first to ask makes it."""
    for key in entry.path[:-1]:
        params = params.setdefault(key, {})
    if entry.path[-1] not in params:
        params[entry.path[-1]] = np.empty(entry.whole, np.float32)
    return params[entry.path[-1]]


def _leaves(tree: Any, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], Any]:
    if not isinstance(tree, dict):
        return {path: tree}
    return {key: leaf for name in tree for key, leaf in _leaves(tree[name], (*path, name)).items()}


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")
    return shown or "none"
