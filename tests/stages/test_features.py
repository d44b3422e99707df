"""Item vectors of titles by a Hugging Face BERT folder."""

import shutil

import jax
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from flax import linen as nn
from rich.console import Console

from configs import default
from recjax.context import Context
from recjax.data.text import load_tokenizer, train_wordpiece
from recjax.errors import UserError
from recjax.logs import Progress
from recjax.models import TextBert, TextConfig, init_text_bert, write_bert
from recjax.stages import features, fingerprint
from recjax.workdir import Workdir

TITLES = ["", "", "", "", "", "red shoe", "blue shoe", "", "red hat for a blue shoe", "hat", "a"]
WORDS = 60


def _write_folder(folder, vocab_size=WORDS, seed=0):
    config = TextConfig(
        vocab_size=vocab_size, num_layers=1, hidden_dim=8, num_heads=2, mlp_dim=12, max_len=12
    )
    boxed = jax.jit(lambda key: init_text_bert(config, key, ()))(jax.random.key(seed))
    params = jax.tree.map(np.asarray, nn.meta.unbox(boxed))
    train_wordpiece(TITLES, WORDS).save(folder.parent / "words")
    write_bert(folder, config, params, folder.parent / "words")
    return config, params


@pytest.fixture
def make_context(tmp_path):
    _write_folder(tmp_path / "bert")

    def make(**settings):
        config = default.get_config()
        config.features.update({"encoder": "bert", "folder": str(tmp_path / "bert")})
        config.features.update({"max_len": 12, "batch_size": 4} | settings)
        workdir = Workdir.open(tmp_path / "work")
        (workdir / "prepared").mkdir(exist_ok=True)
        pq.write_table(pa.table({"title": TITLES}), workdir / "prepared" / "items.parquet")
        return Context(config, workdir, Progress(workdir, Console(quiet=True)))

    return make


def _vectors(context):
    features.run(context)
    return np.load(context.workdir / "features" / "item_vectors.npy")


def test_a_vector_is_the_unit_mean_of_its_titles_tokens(make_context, tmp_path):
    vectors = _vectors(make_context())
    config, params = _write_folder(tmp_path / "again")
    tokenizer, model = load_tokenizer(tmp_path / "bert"), TextBert(config)
    assert vectors.shape == (len(TITLES), 8) and vectors.dtype == np.float32
    for title, vector in zip(TITLES, vectors, strict=True):
        if not title:
            assert not vector.any()
            continue
        ids = np.asarray(tokenizer.encode_titles([title], 12), np.int32)
        batch = {"tokens": ids, "segments": np.ones_like(ids)}
        x = model.apply({"params": params}, batch, method="embed")
        hidden = model.apply({"params": params}, x, batch, False, method="encode")
        mean = np.asarray(hidden)[0].mean(axis=0)
        np.testing.assert_allclose(vector, mean / np.linalg.norm(mean), atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 64])
def test_the_batch_size_bounds_what_is_held_and_changes_nothing(
    make_context, monkeypatch, batch_size
):
    expected, held, batches = _vectors(make_context()), [], features._title_batches

    def watched(*arguments):
        for titles in batches(*arguments):
            held.append(len(titles))
            yield titles

    monkeypatch.setattr(features, "_title_batches", watched)
    np.testing.assert_allclose(_vectors(make_context(batch_size=batch_size)), expected, atol=1e-6)
    assert max(held) <= batch_size and sum(held) == len(TITLES)


def test_max_len_cuts_titles(make_context):
    whole, cut = _vectors(make_context()), _vectors(make_context(max_len=4))
    changed = ~np.isclose(whole, cut, atol=1e-5).all(axis=1)
    assert changed[8] and not changed[9]


def test_another_model_in_the_folder_is_another_artefact(make_context, tmp_path):
    _write_folder(tmp_path / "other", seed=1)
    one, other = make_context(), make_context(folder=str(tmp_path / "other"))
    assert not np.allclose(_vectors(one), _vectors(other))
    before = fingerprint("features", one)["files"]
    shutil.copy(tmp_path / "other" / "model.safetensors", tmp_path / "bert")
    after = fingerprint("features", one)["files"]
    assert before != after and after == fingerprint("features", other)["files"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"encoder": "word2vec"}, "'word2vec' is unknown; known: '', 'tfidf', 'bert'"),
        ({"folder": ""}, "features.folder is empty"),
        ({"folder": "nowhere"}, "nowhere/config.json is missing"),
        ({"max_len": 13}, "max_len = 13; .* takes 3 to 12 tokens"),
        ({"max_len": 2}, "max_len = 2"),
        ({"batch_size": 0}, "batch_size = 0; give at least 1"),
    ],
)
def test_bad_settings_are_named_and_nothing_is_left(make_context, settings, message):
    context = make_context(**settings)
    with pytest.raises(UserError, match=message):
        features.run(context)
    assert not (context.workdir / "features").exists()


def test_a_tokenizer_with_more_tokens_than_the_model_is_refused(make_context, tmp_path):
    _write_folder(tmp_path / "small", vocab_size=20)
    with pytest.raises(UserError, match="tokens, its model 20"):
        features.run(make_context(folder=str(tmp_path / "small")))


def test_a_folder_without_tokenizer_is_refused(make_context, tmp_path):
    (tmp_path / "bert" / "tokenizer.json").unlink()
    with pytest.raises(UserError, match="no tokenizer"):
        features.run(make_context())
