"""expand: fit the generator of each seed, draw each arm's users through the gate, grade them.

Every artefact is written whole: a generator or an arm's draws that are there are not made again.
Synthetic users are marked (source >= 1) and live under expansion/, so they can never reach the
validation or test part.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from recjax import hmm
from recjax.context import Context
from recjax.data.examples import write_clicks, write_sequences
from recjax.data.record_sources import open_examples
from recjax.data.records import Record
from recjax.errors import UserError
from recjax.expansion import (
    ClickConfig,
    ClickMaker,
    EditConfig,
    ExpansionData,
    GateConfig,
    GeneratorConfig,
    GeneratorState,
    ItemFacts,
    RealReference,
    build_reference,
    expand_arm,
    find_held_out,
    fit_generator,
    get_strategy,
    load_generator,
    make_report_card,
    save_generator,
)
from recjax.expansion.records import iterate
from recjax.experiment import Experiment
from recjax.stages.masked_model import make_loader
from recjax.stages.next_item_model import make_trainer
from recjax.stages.oracle import ShopOracle
from recjax.stages.similar_items import open_similar_items
from recjax.workdir import read_json, write_json


def run(context: Context) -> dict[str, Any]:
    """Writes expansion/generators, expansion/ARM/seed_S, report_card.json, state_cards.json."""
    experiment, config = Experiment(context), context.config.expansion
    if not config.arms:
        context.progress.say("no arms in config.expansion.arms: real users only")
        return {}
    folder = context.workdir / "expansion"
    folder.mkdir(exist_ok=True)
    try:
        gate = GateConfig(**config.gate)
        reference = build_reference(
            experiment.examples("sequences", "train"),
            gate,
            vocab_size=experiment.items.vocab_size,
            num_actions=len(context.config.data.actions),
            category_of_item=experiment.items.category_id,
        )
        models: dict[str, Callable[..., Any]] = {
            "train_next_item": make_trainer(experiment),
            "load_masked": make_loader(experiment),
        }
        for seed in context.seeds:
            _expand_seed(experiment, folder, seed, gate, reference, models)
        cards = {
            arm: _report_card(experiment, folder / arm, gate, reference) for arm in config.arms
        }
    except ValueError as error:
        raise UserError(f"config.expansion: {error}") from error
    write_json(folder / "report_card.json", cards)
    for arm, card in cards.items():
        context.progress.say(f"{arm}: grade {card['grade']}")
    return {"grades": {arm: card["grade"] for arm, card in cards.items()}}


def _expand_seed(
    experiment: Experiment,
    folder: Path,
    seed: int,
    gate: GateConfig,
    reference: RealReference,
    models: Mapping[str, Callable[..., Any]],
) -> None:
    """Fits one seed's generator and draws every arm of that seed."""
    context, config = experiment.context, experiment.context.config
    arms = config.expansion.arms
    needs = {need for mix in arms.values() for name in mix for need in get_strategy(name).needs}
    if any(use.soft_targets or use.fresh_share for use in experiment.arm_settings.values()):
        needs.add("generator")
    if config.expansion.clicks.per_user:
        needs.add("generator")
    data = ExpansionData(
        source=experiment.examples("sequences", "train"),
        session_gap_seconds=config.prepare.cleaning.session_gap_seconds,
        short_user_events=config.expansion.short_user_events,
        max_len=config.expansion.hmm.max_len,
        generator=_generator(experiment, folder, seed) if "generator" in needs else None,
        fresh_users=_fresh_users(context) if "fresh_users" in needs else None,
        rare_items=reference.rare_items,
        edits=EditConfig(**config.expansion.edits),
        similar=open_similar_items(experiment, folder / "similar_items.npz")
        if "similar" in needs
        else None,
        item_category=experiment.items.category_id,
        **models,
    )
    for place, (arm, mix) in enumerate(arms.items()):
        target = folder / arm / f"seed_{seed}"
        if (target / "gate.json").exists():
            continue
        ratio = experiment.arm_settings[arm].ratio
        records, counts = expand_arm(dict(mix), ratio, seed, data, reference, gate)
        number = write_sequences(target, records)
        _write_clicks(experiment, target, seed, data.generator, reference)
        write_json(target / "gate.json", {name: count.to_dict() for name, count in counts.items()})
        context.progress.update("draw", place + 1, len(arms))
        context.progress.say(f"{arm}, seed {seed}: {number:,} synthetic users kept")


def _write_clicks(
    experiment: Experiment,
    target: Path,
    seed: int,
    generator: GeneratorState | None,
    reference: RealReference,
) -> None:
    """Makes click examples of an arm's draws, where the config asks for some."""
    config = ClickConfig(**experiment.context.config.expansion.clicks)
    if not config.per_user or generator is None:
        return
    maker = ClickMaker(
        config,
        generator,
        reference.item_counts,
        seed,
        experiment.context.config.prepare.max_history,
    )
    write_clicks(target, maker.make(iterate(open_examples(target, "sequences", "train"))))


def _generator(experiment: Experiment, folder: Path, seed: int) -> GeneratorState:
    """Returns the seed's generator, fitted or loaded; the first seed's states get their cards."""
    context, config = experiment.context, experiment.context.config
    path = folder / "generators" / f"seed_{seed}.npz"
    if path.exists():
        return load_generator(path)
    state = fit_generator(
        experiment.examples("sequences", "train"),
        GeneratorConfig(**config.expansion.hmm),
        seed,
        vocab_size=experiment.items.vocab_size,
        num_actions=len(config.data.actions),
        num_gap_bins=config.prepare.num_gap_bins,
        facts=_item_facts(experiment),
    )
    if seed == context.seeds[0]:
        write_json(folder / "state_cards.json", _state_cards(experiment, state))
    save_generator(path, state)
    last = state.history[-1]
    context.progress.say(
        f"generator, seed {seed}: {len(state.history)} iterations, log-likelihood per event "
        f"{last[0]:.3f}, held out {last[1]:.3f}"
    )
    return state


def _item_facts(experiment: Experiment) -> ItemFacts:
    path = experiment.context.workdir / "features" / "item_vectors.npy"
    vectors = np.load(path) if path.exists() else None
    return ItemFacts(experiment.items.category_id, experiment.items.price_band, vectors)


def _state_cards(experiment: Experiment, state: GeneratorState) -> list[dict[str, Any]]:
    table = experiment.items
    categories = [_category_name(table, number) for number in range(table.num_categories)]
    return hmm.describe_states(
        state.params,
        list(experiment.context.config.data.actions),
        item_names=[table.titles[item] or table.item_ids[item] for item in state.item_ids],
        item_category=table.category_id[state.item_ids],
        category_names=categories,
    )


def _report_card(
    experiment: Experiment, folder: Path, gate: GateConfig, reference: RealReference
) -> dict[str, Any]:
    """Grades the first seed's draws of an arm; the gate's counts of all seeds beside."""
    context, table = experiment.context, experiment.items
    first, real = folder / f"seed_{context.seeds[0]}", experiment.examples("sequences", "train")
    card = make_report_card(
        real,
        open_examples(first, "sequences", "train"),
        reference,
        gate,
        category_of_item=table.category_id,
        num_gap_bins=context.config.prepare.num_gap_bins,
        max_len=context.config.expansion.hmm.max_len,
        action_names=list(context.config.data.actions),
        category_names=lambda category: _category_name(table, category),
        held_out=find_held_out(dict(context.config.expansion.arms[folder.name]), len(real)),
    )
    card["gate"] = {
        str(seed): read_json(folder / f"seed_{seed}" / "gate.json") for seed in context.seeds
    }
    return card


def _category_name(table: Any, category: int) -> str:
    places = np.flatnonzero(table.category_id == category)
    return str(table.categories[places[0]]) if category and len(places) else "none"


def _fresh_users(context: Context) -> Any:
    """Returns draws of the true process as records, None for real logs."""
    oracle = ShopOracle.of(context)
    return None if oracle is None else _FreshUsers(oracle, tuple(context.config.data.actions))


class _FreshUsers:
    """Gives users first..first + n - 1 of a seed's endless stream of the true process."""

    def __init__(self, oracle: ShopOracle, actions: Sequence[str]) -> None:
        self._oracle, self._actions = oracle, {name: place for place, name in enumerate(actions)}
        self._item = {name: number for number, name in enumerate(oracle.item_ids)}
        self._streams: dict[int, tuple[Iterator[Record], list[Record]]] = {}

    def __call__(self, seed: int, first: int, n: int) -> list[Record]:
        if seed not in self._streams:
            self._streams[seed] = (self._draw(seed), [])
        stream, made = self._streams[seed]
        made.extend(islice(stream, max(0, first + n - len(made))))
        return [dict(record) for record in made[first : first + n]]

    def _draw(self, seed: int) -> Iterator[Record]:
        for number, user in enumerate(self._oracle.shop.fresh_users(seed, 1 << 40)):
            length = len(user["items"])
            yield {
                "user": number,
                "items": np.array([self._item[name] for name in user["items"]], np.int32),
                "actions": np.array([self._actions[name] for name in user["actions"]], np.int32),
                "times": np.asarray(user["timestamps"], np.int64),
                "sessions": np.zeros(length, np.int32),
                "weight": np.float32(1.0),
                "source": 0,
            }
