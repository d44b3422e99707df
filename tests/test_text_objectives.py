"""Text objectives by config: what they read, what they are, a step of each, what is refused."""

import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from example_records import make_item_table, make_records
from ml_collections import ConfigDict
from rich.console import Console
from tiny_training import ENCODER

from configs import smoke
from recjax.context import Context
from recjax.data.record_sources import ListSource
from recjax.data.text import load_tokenizer, tokenize_titles, train_wordpiece
from recjax.errors import UserError
from recjax.experiment import Experiment
from recjax.logs import Progress
from recjax.objectives import make_pretrain_task
from recjax.stages import features, pretrain
from recjax.tasks import MaskedText, TextAlignment, TextTask
from recjax.text_objectives import NO_TEXTS, TEXT_OBJECTIVES, describe_texts, read_texts
from recjax.workdir import Workdir

TABLE = make_item_table()
TITLES = ["" if i < 5 else f"running shoe {i}" if i % 2 else f"蓝牙耳机 {i}" for i in range(45)]
ALL = dict.fromkeys(TEXT_OBJECTIVES, 1.0)


def make_config(**changes):
    """The smoke config with all text objectives on; changes by dotted name below `pretrain`."""
    config = smoke.get_config()
    config.pretrain.objectives.update(ALL)
    config.prepare.text.vocab_size = 60
    for size in ("hidden_dim", "mlp_dim"):
        config.pretrain.text[size] = 16
    config.pretrain.text.num_layers = 1
    config.update_from_flattened_dict(
        {f"pretrain.{name.replace('__', '.')}": value for name, value in changes.items()}
    )
    return config


def reading(task):
    """The text objectives of a mixture."""
    return [part for part in task.objectives if isinstance(part, TextTask)]


@pytest.fixture
def prepared(tmp_path):
    folder = tmp_path / "work" / "prepared"
    tokenizer = train_wordpiece(TITLES, 60)
    tokenizer.save(folder / "tokenizer")
    np.save(folder / "titles.npy", tokenize_titles(TITLES, tokenizer, 8))
    return folder


def test_no_objective_reads_no_text(tmp_path):
    assert read_texts(smoke.get_config(), tmp_path / "nothing", 45) is NO_TEXTS
    assert describe_texts(smoke.get_config(), 45) is NO_TEXTS


def test_texts_are_titles_by_row_and_kinds_by_token(prepared):
    texts = read_texts(make_config(), prepared, 48)
    tokens, kinds = texts.constants["item_tokens"], texts.constants["token_kind"]
    np.testing.assert_array_equal(tokens[:45], np.load(prepared / "titles.npy"))
    assert tokens.shape == (48, 8) and not tokens[45:].any() and tokens.dtype == np.int32
    assert kinds.shape == (load_tokenizer(prepared / "tokenizer").vocab_size,)
    assert texts.mask_id == 4 and set(texts.constants) == {"item_tokens", "token_kind"}


def test_a_corpus_adds_rows_and_its_file_or_reviews_are_read(prepared, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("a running shoe\n蓝牙\n", encoding="utf-8")
    texts = read_texts(make_config(text__corpus=str(corpus)), prepared, 45)
    assert len(texts.constants["corpus_tokens"]) == 2
    unused = make_config(text__corpus=str(corpus), objectives__masked_text=0.0)
    assert "corpus_tokens" not in read_texts(unused, prepared, 45).constants
    corpus.write_text("\n")
    with pytest.raises(UserError, match="hold no text"):
        read_texts(make_config(text__corpus=str(corpus)), prepared, 45)


def test_sizes_that_a_log_would_give_describe_texts():
    config = make_config(text__reviews=True)
    config.aot.num_corpus_rows = 321
    shapes = {name: leaf.shape for name, leaf in describe_texts(config, 48).constants.items()}
    length = config.prepare.text.max_len
    assert shapes == {
        "item_tokens": (48, length),
        "token_kind": (60,),
        "corpus_tokens": (321, length),
    }
    parts = reading(make_pretrain_task(config, ENCODER, describe_texts(config, 48)))
    assert [part.with_corpus for part in parts if isinstance(part, MaskedText)] == [True]


@pytest.mark.parametrize(
    ("key", "value", "where"),
    [
        ("text__num_layers", 2, "text"),
        ("text__hidden_dim", 32, "text"),
        ("text__num_heads", 4, "text"),
        ("text__mlp_dim", 32, "text"),
        ("text__dropout_rate", 0.3, "text"),
        ("text__attention_dropout_rate", 0.3, "text"),
        ("text__texts_per_row", 2, ""),
        ("text__mask_rate", 0.4, ""),
        ("text__alignment_dim", 8, ""),
    ],
)
def test_each_setting_reaches_its_objective(prepared, key, value, where):
    field = {"text__alignment_dim": "dim"}.get(key, key.removeprefix("text__"))
    found = []
    for config in (make_config(), make_config(**{key: value})):
        task = make_pretrain_task(config, ENCODER, read_texts(config, prepared, 48))
        owners = [getattr(part, where) if where else part for part in reading(task)]
        fields = [vars(owner)[field] for owner in owners if field in vars(owner)]
        assert fields and len(set(fields)) == 1
        found.append(fields[0])
    assert found[0] != found[1] == value


def test_alignment_reads_as_the_mixture_does(prepared):
    for name, causal in (("masked_item", False), ("next_item", True)):
        config = make_config(objectives__masked_item=0.0)
        config.pretrain.objectives[name] = 1.0
        task = make_pretrain_task(config, ENCODER, read_texts(config, prepared, 48))
        aligned = [part for part in reading(task) if isinstance(part, TextAlignment)]
        assert [part.causal for part in aligned] == [task.causal] == [causal]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"text__hidden_dim": 15}, r"config.pretrain.text: hidden_dim 15 not divisible"),
        ({"text__mask_rate": 0.0}, r"text.mask_rate must be in \(0, 1\], got 0"),
        ({"text__texts_per_row": 0}, "texts_per_row must be at least 1, got 0"),
        ({"text__alignment_dim": 0}, "alignment_dim must be at least 1, got 0"),
    ],
)
def test_settings_out_of_range_are_user_errors(prepared, change, message):
    config = make_config(**change)
    with pytest.raises(UserError, match=message):
        make_pretrain_task(config, ENCODER, read_texts(config, prepared, 48))


def test_pmap_and_alignment_and_titles_that_are_not_there_are_refused(prepared):
    config = make_config()
    config.parallel.engine = "pmap"
    with pytest.raises(UserError, match="text_alignment .* set config.parallel.engine = 'jit'"):
        make_pretrain_task(config, ENCODER, read_texts(config, prepared, 48))
    (prepared / "tokenizer").rename(prepared / "elsewhere")
    with pytest.raises(UserError, match=r"masked_text, .*catalogue_path .*columns.title"):
        read_texts(config, prepared, 48)


def test_a_tokenizer_without_mask_token_is_refused(prepared):
    folder = prepared / "tokenizer"
    model = json.loads((folder / "tokenizer.json").read_text().replace("[MASK]", "[HIDE]"))
    (folder / "tokenizer.json").write_text(json.dumps(model))
    settings = json.loads((folder / "tokenizer_config.json").read_text())
    del settings["mask_token"]
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    with pytest.raises(UserError, match=r"config.prepare.text.tokenizer .* no mask token"):
        read_texts(make_config(), prepared, 48)


@pytest.fixture
def experiment(prepared, monkeypatch):
    """An experiment on made-up examples; its work directory has titles."""
    config = make_config()
    config.num_seeds, config.parallel.prefetch_batches = 2, 0
    config.pretrain.batch_size, config.evaluate.batch_size = 16, 16
    config.pretrain.num_steps = 2
    config.expansion.arms = ConfigDict()
    workdir = Workdir.open(prepared.parent)
    sources = {
        (kind, part): ListSource(make_records(kind, 24))
        for kind in ("sequences", "next_item", "click")
        for part in ("train", "valid")
    }
    monkeypatch.setattr(Experiment, "examples", lambda self, kind, part: sources[kind, part])
    monkeypatch.setattr(Experiment, "_validator", lambda self, task: lambda params: np.arange(2))
    monkeypatch.setattr(Experiment, "items", dataclasses.replace(TABLE))
    return Experiment(Context(config, workdir, Progress(workdir, Console(quiet=True))))


@pytest.mark.slow
def test_the_stage_trains_all_of_them_and_keeps_a_text_encoder_that_opens(experiment, monkeypatch):
    monkeypatch.setattr(pretrain, "Experiment", lambda context: experiment)
    pretrain.run(experiment.context)
    folder = experiment.context.workdir / "pretrain" / "real"
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    names = {name for line in lines for name in line}
    assert {f"train/{name}" for name in ("masked_text", "text_alignment")} <= names
    assert {f"train/joint_item_text/{side}" for side in ("item", "words")} <= names
    fresh = experiment.pretraining("real").init_params(jnp.arange(2, dtype="uint32"))["text"]
    best = experiment.text_encoders("real")
    assert all(jax.tree.leaves(jax.tree.map(lambda a, b: (a != b).any(), fresh, best)))
    for seed in (0, 1):
        tokenizer, config, params = features.open_bert(f"{folder}/text_encoder/seed_{seed}")
        table = params["embedding"]["word"]["table"]
        np.testing.assert_array_equal(table, best["embedding"]["word"]["table"][seed])
        assert tokenizer.vocab_size == config.vocab_size == len(table)
