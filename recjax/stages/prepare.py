"""prepare: a log becomes a cleaned, split, numbered one, a vocabulary, an item table and examples.

Everything is written into one folder beside prepared/, which takes its place at the end.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq

from recjax.context import Context
from recjax.data.examples import ExampleConfig, write_examples
from recjax.data.items import read_items, write_items
from recjax.data.prepare_log import CleanLog, clean_log, encode_log, item_counts
from recjax.data.settings import log_settings
from recjax.data.simulated_shop import ShopConfig, SimulatedShop
from recjax.data.text import load_tokenizer, tokenize_titles, train_wordpiece
from recjax.data.vocabulary import Vocabulary
from recjax.errors import UserError
from recjax.stages.kinds import is_table

_SOURCES = ("file", "simulated_shop", "tfds", "ibis")


def run(context: Context) -> dict[str, Any]:
    """Writes prepared/; see DESIGN's work directory for what is in it."""
    if is_table(context.config):
        from recjax.stages.prepare_table import prepare_table

        return prepare_table(context)
    config, say = context.config, context.progress.say
    with context.workdir.fresh_folder("prepared") as folder:
        data = locate_source(context, folder)
        clean = clean_log(log_settings(data, config.prepare), folder)
        kept = {name: f"{clean.profile['after'][name]:,}" for name in ("events", "users", "items")}
        say("clean: " + ", ".join(f"{number} {name}" for name, number in kept.items()))
        vocabulary = _vocabulary(clean)
        vocabulary.save(folder / "vocabulary.json")
        facts = encode_log(clean, vocabulary.table())
        write_items(
            folder / "items.parquet",
            vocabulary,
            clean.catalogue,
            num_price_bands=config.prepare.num_price_bands,
        )
        _write_titles(folder, config.prepare.text)
        if clean.graph is not None:
            pq.write_table(clean.graph, folder / "graph.parquet")
        say(f"{facts.num_events:,} events at {facts.events_per_second:,.0f} a second")
        shown = folder / "impressions.parquet"
        examples = write_examples(
            folder / "events.parquet",
            folder / "examples",
            ExampleConfig(
                actions=tuple(config.data.actions),
                target_actions=tuple(config.prepare.target_actions),
                max_history=config.prepare.max_history,
                click_negatives=config.prepare.click_negatives,
                max_click_examples=config.prepare.max_click_examples,
                seed=config.seed,
            ),
            num_items=vocabulary.num_items,
            impressions_path=shown if shown.exists() else None,
            progress=lambda done: context.progress.update("examples", done, facts.num_events),
        )
        _check_examples(examples.records)
    return {
        "events_per_second": facts.events_per_second,
        "examples_per_second": facts.events_per_second,
        "examples": examples.records,
        "users_without_target": examples.users_without_target,
        "click_share": examples.click_share,
    }


def locate_source(context: Context, folder: Path) -> dict[str, Any]:
    """Returns config.data with paths of real files; made ones are written below `folder`."""
    config = context.config.data
    data: dict[str, Any] = dict(config.items())
    if config.source == "simulated_shop":
        shop = SimulatedShop(ShopConfig(**config.simulated_shop))
        paths = shop.write(folder / "shop")
        data |= {f"{name}_path": str(path) for name, path in paths.items() if name != "events"}
        return data | {"source": "file", "path": str(paths["events"]), "format": "parquet"}
    if config.source == "tfds":
        made = _build_dataset(config, folder)
        data |= {f"{name}_path": str(path) for name, path in made.items() if name != "events"}
        return data | {"source": "file", "path": str(made["events"]), "format": "parquet"}
    if config.source not in _SOURCES:
        raise UserError(f"config.data.source={config.source!r}; known: {', '.join(_SOURCES)}")
    return data


def _build_dataset(config: Any, folder: Path) -> dict[str, Path]:
    """Builds a public data set with its TFDS builder and writes its tables as Parquet."""
    from recjax.data.datasets import build_dataset, export_dataset

    builder = build_dataset(config.tfds_name, folder / "tfds", config.path)
    return export_dataset(builder, folder / "source")


def _vocabulary(clean: CleanLog) -> Vocabulary:
    known = [] if clean.catalogue is None else clean.catalogue["item_id"].to_pylist()
    return Vocabulary.build(item_counts(clean), [str(name) for name in known])


def _write_titles(folder: Path, config: Any) -> None:
    """Writes the tokenizer and the tokens of every title; all padding where there are no titles."""
    titles = read_items(folder / "items.parquet").titles.tolist()
    if not any(titles):
        np.save(folder / "titles.npy", np.zeros((len(titles), config.max_len), np.int32))
        return
    if config.tokenizer:
        tokenizer = load_tokenizer(config.tokenizer)
    else:
        tokenizer = train_wordpiece(titles, config.vocab_size)
    tokenizer.save(folder / "tokenizer")
    np.save(folder / "titles.npy", tokenize_titles(titles, tokenizer, config.max_len))


def _check_examples(records: dict[str, dict[str, int]]) -> None:
    for part in ("valid", "test"):
        if not records["next_item"].get(part, 0):
            raise UserError(
                f"the {part} part has no user with a history and a target; "
                "give a longer log, or a larger config.prepare.split share"
            )


__all__ = ["locate_source", "run"]
