"""Hugging Face BERT folders, read and written."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest
from make_bert_golden import FOLDER, MODELS
from safetensors.numpy import load_file, save_file

from recjax.data.text import train_wordpiece
from recjax.models import read_bert, stack_layers, write_bert

WORDS = "embeddings.word_embeddings.weight"
NORM = "embeddings.LayerNorm"


@pytest.fixture
def folder(tmp_path):
    """A copy of the golden BertForPreTraining, to be spoiled."""
    shutil.copytree(FOLDER / "BertForPreTraining", tmp_path / "bert")
    return tmp_path / "bert"


def _edit(folder, change):
    """Writes the tensors of a folder as `change` leaves them."""
    tensors = load_file(folder / "model.safetensors")
    save_file(change(tensors) or tensors, folder / "model.safetensors")


def _assert_same_tree(one, two):
    jax.tree.map(np.testing.assert_array_equal, one, two)
    assert jax.tree.map(np.shape, one) == jax.tree.map(np.shape, two)


def _bits(folder):
    return {
        name: value.tobytes() for name, value in load_file(folder / "model.safetensors").items()
    }


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_of_transformers_is_written_back_as_it_was(tmp_path, name):
    write_bert(tmp_path / "again", *read_bert(FOLDER / name))
    assert _bits(tmp_path / "again") == _bits(FOLDER / name)
    ours, theirs = (
        json.loads((path / "config.json").read_text())
        for path in (tmp_path / "again", FOLDER / name)
    )
    assert ours == theirs
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


@pytest.mark.parametrize(
    ("heads", "model"),
    [
        ((), "BertModel"),
        (("pooler",), "BertModel"),
        (("masked_token",), "BertForMaskedLM"),
        (("pooler", "masked_token"), "BertForMaskedLM"),
        (("pooler", "next_sentence"), "BertForNextSentencePrediction"),
        (("pooler", "masked_token", "next_sentence"), "BertForPreTraining"),
    ],
)
def test_parameters_come_back_bit_for_bit(tmp_path, text_config, random_params, heads, model):
    params = random_params(text_config, heads)
    params["embedding_norm"]["scale"][:3] = [np.nan, -0.0, 1e-42]
    write_bert(tmp_path / "bert", text_config, params)
    config, again = read_bert(tmp_path / "bert")
    bits = [jax.tree.map(lambda leaf: leaf.view(np.uint32), tree) for tree in (params, again)]
    _assert_same_tree(*bits)
    settings = json.loads((tmp_path / "bert" / "config.json").read_text())
    assert settings["architectures"] == [model]
    assert dataclasses.replace(config, other_settings="{}") == text_config


def test_scanned_layers_are_written_one_by_one(tmp_path, text_config, random_params):
    params = random_params(text_config)
    write_bert(tmp_path / "plain", text_config, params)
    scanned = dataclasses.replace(text_config, scan=True)
    write_bert(tmp_path / "scanned", scanned, stack_layers(params))
    assert _bits(tmp_path / "plain") == _bits(tmp_path / "scanned")


def test_old_names_prefixes_and_second_names_mean_the_same(folder):
    _, expected = read_bert(folder)

    def change(tensors):
        tensors["cls.predictions.decoder.weight"] = tensors[f"bert.{WORDS}"].copy()
        tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].copy()
        tensors["bert.embeddings.position_ids"] = np.arange(10)[None]
        old = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
        for name in [*tensors]:
            new = name
            for ending, older in old.items():
                new = new.replace(ending, older)
            if "layer.0" in name:
                new = new.removeprefix("bert.")
            tensors[new] = tensors.pop(name)

    _edit(folder, change)
    _assert_same_tree(read_bert(folder)[1], expected)


def test_half_precision_is_widened(folder):
    _, whole = read_bert(folder)
    _edit(folder, lambda tensors: {n: t.astype(np.float16) for n, t in tensors.items()})
    _, half = read_bert(folder)
    rounded = jax.tree.map(lambda leaf: leaf.astype(np.float16).astype(np.float32), whole)
    _assert_same_tree(half, rounded)
    assert {leaf.dtype for leaf in jax.tree.leaves(half)} == {np.dtype("float32")}


SPOILED = {
    "a missing tensor": (
        lambda tensors: {n: t for n, t in tensors.items() if n != f"bert.{NORM}.bias"},
        rf"unexpected tensors: none; missing tensors: {NORM}.bias; right for 2 layers",
    ),
    "half a head": (
        lambda tensors: {n: t for n, t in tensors.items() if n != "bert.pooler.dense.bias"},
        "missing tensors: pooler.dense.bias",
    ),
    "a tensor too many": (
        lambda tensors: tensors | {"classifier.weight": np.zeros((2, 8), np.float32)},
        "unexpected tensors: classifier.weight; missing tensors: none",
    ),
    "one tensor twice": (
        lambda tensors: tensors | {WORDS: tensors[f"bert.{WORDS}"].copy()},
        f"bert.{WORDS} and {WORDS} are the same parameter",
    ),
    "a wrong shape": (
        lambda tensors: tensors | {f"bert.{WORDS}": np.zeros((25, 8), np.float32)},
        rf"tensor {WORDS} is \(25, 8\); config.json makes it \(24, 8\)",
    ),
    "a wrong type": (
        lambda tensors: tensors | {f"bert.{WORDS}": np.zeros((24, 8), np.float64)},
        f"tensor {WORDS} is float64; float32 or float16 is right",
    ),
    "untied output words": (
        lambda tensors: tensors | {"cls.predictions.decoder.weight": tensors[f"bert.{WORDS}"] + 1},
        "decoder.weight differs from .*tie_word_embeddings",
    ),
}


@pytest.mark.parametrize("change, message", SPOILED.values(), ids=SPOILED)
def test_tensors_that_are_not_right_are_named(folder, change, message):
    _edit(folder, change)
    with pytest.raises(ValueError, match=message):
        read_bert(folder)


def test_more_layers_than_config_json_says_are_unexpected(folder):
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | {"num_hidden_layers": 1}))
    with pytest.raises(ValueError, match=r"unexpected tensors: encoder.layer.1.* and 8 more;"):
        read_bert(folder)


def _only_pytorch(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _in_parts(folder):
    (folder / "model.safetensors").rename(folder / "model-00001-of-00002.safetensors")
    (folder / "model.safetensors.index.json").write_text("{}")


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (_only_pytorch, r"pytorch_model.bin, which is not read.*save_pretrained"),
        (_in_parts, "several files.*max_shard_size"),
        (lambda f: (f / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda f: (f / "model.safetensors").write_bytes(b"no" * 9), "bert: "),
        (lambda f: (f / "config.json").unlink(), "config.json is missing; give the folder"),
        (lambda f: (f / "config.json").write_text("{"), "config.json is not JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "holds no JSON object"),
        (lambda f: (f / "config.json").write_text('{"hidden_act": "relu"}'), "hidden_act = 'relu'"),
    ],
)
def test_folders_that_are_not_right_say_why(folder, spoil, message):
    spoil(folder)
    with pytest.raises(ValueError, match=message):
        read_bert(folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.pop("layers_1"), "layers_1/attention"),
        (lambda p: p.update(classifier={"bias": np.zeros(2)}), "classifier/bias"),
        (lambda p: p["pooler"].clear(), "pooler/dense/bias, pooler/dense/kernel"),
        (
            lambda p: p["embedding"]["word"].update(table=np.zeros((3, 8), np.float32)),
            r"embedding/word/table is float32 \(3, 8\); .* float32 \(24, 8\)",
        ),
        (
            lambda p: p["embedding"]["word"].update(table=np.zeros((24, 8), np.float16)),
            "embedding/word/table is float16",
        ),
    ],
)
def test_parameters_that_do_not_fit_are_named_and_nothing_is_written(
    tmp_path, text_config, random_params, change, message
):
    params = random_params(text_config)
    change(params)
    with pytest.raises(ValueError, match=message):
        write_bert(tmp_path / "bert", text_config, params)
    assert not [*tmp_path.iterdir()]


def test_a_folder_with_something_in_it_is_left_alone(folder):
    before = _bits(folder)
    with pytest.raises(ValueError, match="is there already"):
        write_bert(folder, *read_bert(folder))
    assert _bits(folder) == before


def test_the_vocabulary_travels_with_the_weights(tmp_path, text_config, random_params):
    from transformers import AutoTokenizer

    train_wordpiece(["red shoe", "blue shoe"], 24).save(tmp_path / "words")
    write_bert(tmp_path / "bert", text_config, random_params(text_config, ()), tmp_path / "words")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "bert", local_files_only=True)
    assert (
        tokenizer("red shoe")["input_ids"]
        == train_wordpiece(["blue shoe", "red shoe"], 24).encode_titles(["red shoe"], 8)[0]
    )
    with pytest.raises(ValueError, match="neither tokenizer.json nor vocab.txt"):
        write_bert(tmp_path / "other", text_config, random_params(text_config, ()), tmp_path)
