"""Reads and writes Hugging Face BERT folders: config.json, model.safetensors, tokenizer files.

transformers 5 has no Flax models, so the weights go straight between safetensors and the parameter
tree of `TextBert`; PyTorch is not needed. Both directions keep every bit of a float32 tensor.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recjax.models.bert_settings import to_bert_settings, to_text_config
from recjax.models.bert_tensors import plain_names, to_params, to_tensors
from recjax.models.blocks import unstack_layers
from recjax.models.text_bert import TextConfig

_WEIGHTS = "model.safetensors"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
    "special_tokens_map.json",
    "added_tokens.json",
)


def read_bert(folder: str | Path) -> tuple[TextConfig, dict[str, Any]]:
    """Reads a BertModel, BertForMaskedLM, BertForNextSentencePrediction or BertForPreTraining.

    Args:
        folder: with config.json and model.safetensors; float16 tensors are widened.

    Returns:
        The configuration, and parameters: nested dicts of numpy float32 [...], with those of
        "pooler", "masked_token" and "next_sentence" that the folder has.

    Raises:
        ValueError: if a file is missing or spoiled, the model is another than `TextBert` is, or
            tensors are unknown, missing or of a wrong shape, naming each.
    """
    from safetensors import SafetensorError, safe_open

    folder = Path(folder)
    settings = _read_settings(folder / "config.json")
    weights = _weights_file(folder)
    try:
        config = to_text_config(settings)
        with safe_open(weights, framework="np") as file:
            names = plain_names(file.keys())
            return config, to_params(config, lambda name: file.get_tensor(names[name]), set(names))
    except (ValueError, TypeError, SafetensorError) as error:
        raise ValueError(f"{folder}: {error}") from error


def write_bert(
    folder: str | Path,
    config: TextConfig,
    params: Mapping[str, Any],
    vocabulary: str | Path | None = None,
) -> None:
    """Writes a folder that transformers' `from_pretrained` and `read_bert` open.

    The heads among the parameters decide which model it is. The folder is written beside and
    renamed, so that it is there whole or not at all.

    Args:
        folder: new, or empty.
        config: of the model; with `scan` the layers are written one by one all the same.
        params: parameters of a `TextBert`, float32 [...] each, unboxed.
        vocabulary: folder whose tokenizer files are copied; None writes none.

    Raises:
        ValueError: if the folder has something in it, a parameter does not fit the configuration,
            or the vocabulary folder has no tokenizer, naming it.
    """
    from safetensors.numpy import save_file

    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ValueError(f"{folder} is there already; give the name of a new folder")
    params = unstack_layers(dict(params)) if config.scan else dict(params)
    model = _model_name(params)
    prefix = "" if model == "BertModel" else "bert."
    tensors = {
        name if name.startswith("cls.") else prefix + name: tensor
        for name, tensor in to_tensors(config, params).items()
    }
    settings = to_bert_settings(config) | {"architectures": [model], "dtype": "float32"}
    tokenizer = _tokenizer_files(vocabulary)
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    (partial / "config.json").write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n")
    save_file(tensors, partial / _WEIGHTS, metadata={"format": "pt"})  # transformers asks for it
    for path in tokenizer:
        shutil.copyfile(path, partial / path.name)
    os.replace(partial, folder)


def _model_name(params: Mapping[str, Any]) -> str:
    """Returns transformers' name of the smallest model that has these heads."""
    if "masked_token" in params:
        return "BertForPreTraining" if "next_sentence" in params else "BertForMaskedLM"
    return "BertForNextSentencePrediction" if "next_sentence" in params else "BertModel"


def _read_settings(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise ValueError(f"{path} is missing; give the folder of a Hugging Face BERT")
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(settings, dict):
        raise ValueError(f"{path} holds no JSON object")
    return settings


def _weights_file(folder: Path) -> Path:
    if (folder / _WEIGHTS).exists():
        return folder / _WEIGHTS
    if (folder / f"{_WEIGHTS}.index.json").exists():
        raise ValueError(
            f"{folder} has its weights in several files; write them as one: model.save_pretrained("
            "folder, max_shard_size='50GB') in transformers"
        )
    if any(folder.glob("pytorch_model*.bin")):
        raise ValueError(
            f"{folder} has PyTorch's pytorch_model.bin, which is not read here; write safetensors "
            "where PyTorch is installed: AutoModelForPreTraining.from_pretrained(folder)"
            ".save_pretrained(new_folder)"
        )
    raise ValueError(f"{folder / _WEIGHTS} is missing")


def _tokenizer_files(vocabulary: str | Path | None) -> list[Path]:
    if vocabulary is None:
        return []
    found = [Path(vocabulary) / name for name in _TOKENIZER_FILES]
    found = [path for path in found if path.exists()]
    if not any(path.name in ("tokenizer.json", "vocab.txt") for path in found):
        raise ValueError(f"{vocabulary} has neither tokenizer.json nor vocab.txt to copy")
    return found
