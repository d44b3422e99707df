"""Every key of a training section changes what it says; a new key without a test is named."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from example_records import make_records
from record_experiment import make_experiment
from small_params import flat, make_params, moved
from tiny_training import ENCODER, TABLE

from configs import default, smoke
from recjax.data.loading import TrainBatches
from recjax.data.record_sources import ListSource
from recjax.errors import UserError
from recjax.expansion import GeneratorConfig, ItemFacts, fit_generator, save_generator
from recjax.recipe import make_encoder, make_recipe, optimizer_of
from recjax.tasks import MaskedItem
from recjax.train import with_rows

SOFT = "transformer"  # an arm may be called as a strategy that is trained
LOOP = {"num_steps": 77, "eval_interval_steps": 13, "early_stop_evals": 3}
BATCHES = {"batch_size": 16, "pack": False, "long_users": "random"}
OPTIMIZER = {  # key: another value, and the end of the paths that it is about
    "optimizer": ("lion", ""),
    "learning_rate": (0.5, ""),
    "warmup_steps": (7, ""),
    "schedule": ("linear", ""),
    "decay_share": (0.99, ""),
    "num_steps": (9, ""),
    "weight_decay": (0.5, "kernel"),
    "l2": (0.5, "kernel"),
    "clip_norm": (0.01, ""),
    "beta2": (0.5, ""),
    "table_optimizer": ("adam_rows", "table"),
    "table_learning_rate": (0.5, "table"),
    "table_l2": (0.5, "table"),
    "layer_decay": (0.5, "encoder"),
    "freeze": (("encoder/embedding.*",), "table"),
}
OTHERS = {"ema_decay", "accumulate_steps", "gradient_surgery"}


class SmallTask:
    """A task that has parameters and nothing else."""

    held = ()

    def init(self, key, batch):
        return make_params()


@pytest.fixture
def settings():
    settings = default.get_config().pretrain
    settings.update(warmup_steps=1, num_steps=20, schedule="wsd", decay_share=0.9, clip_norm=0.0)
    return settings


def after_three_gradients(settings):
    """Parameters under the optimizer of a section; the second gradient is ten times as large."""
    optimizer, params = optimizer_of(settings, SmallTask()), make_params()

    @jax.jit
    def run(params, grads):
        state = optimizer.init(params)
        for factor in (1, 10, -1):
            scaled = jax.tree.map(lambda leaf: factor * leaf, grads)  # noqa: B023
            updates, state = optimizer.update(scaled, state, params)
            params = optax.apply_updates(params, updates)
        return params

    return run(params, make_params(seed=1))


@pytest.mark.parametrize(
    "section",
    ["pretrain", "finetune.next_item", "finetune.click", "finetune.row_click"]
    + ["finetune.row_outcomes", "expansion.transformer"]
    + ["expansion.sequence_vae", "expansion.sequence_gan"],
)
def test_every_key_is_tested(section):
    keys = set(default._training(num_steps=1, learning_rate=1.0))
    config = default.get_config()
    for name in section.split("."):
        config = config[name]
    assert keys <= set(config)
    assert keys == set(LOOP) | set(BATCHES) | set(OPTIMIZER) | OTHERS


@pytest.mark.parametrize("key", OPTIMIZER)
def test_key_of_the_optimizer_changes_what_it_says(key, settings):
    before = after_three_gradients(settings)
    value, about = OPTIMIZER[key]
    settings[key] = value
    different = moved(before, after_three_gradients(settings))
    assert different == {name for name in flat(before) if about in name}


@pytest.fixture
def experiment(tmp_path, monkeypatch):
    return make_experiment(smoke.get_config(), tmp_path, monkeypatch)


@pytest.mark.parametrize("key", LOOP)
def test_key_of_the_loop_arrives_there(key, experiment):
    experiment.context.config.pretrain[key] = LOOP[key]
    assert getattr(experiment.pretraining("real").loop, key) == LOOP[key]


def test_keys_of_batches_shape_them(experiment):
    settings = experiment.context.config.pretrain
    packed = next(experiment.pretraining("real").batches)["segments"]
    settings.batch_size, settings.pack = BATCHES["batch_size"], BATCHES["pack"]
    loose = next(experiment.pretraining("real").batches)["segments"]
    assert packed.shape[1] == 8 and packed.max() > 1
    assert loose.shape[1] == 16 and loose.max() == 1
    experiment.context.config.model.max_len = 4
    last = next(experiment.pretraining("real").batches)["items"]
    settings.long_users = BATCHES["long_users"]
    runs = next(experiment.pretraining("real").batches)["items"]
    assert last.shape == runs.shape and (last != runs).any()


def test_accumulate_steps_must_divide_and_arrive_in_the_step(experiment, monkeypatch):
    settings = experiment.context.config.pretrain
    settings.accumulate_steps = 2
    with pytest.raises(UserError, match="batch_size = 8 .* x accumulate_steps = 2; 16 does"):
        experiment.pretraining("real")
    seen = {}
    monkeypatch.setattr("recjax.recipe.make_train_step", lambda *_, **given: seen.update(given))
    make_recipe(MaskedItem(ENCODER), settings, None)
    assert seen["accumulate_steps"] == 2 and not seen["surgery"]
    settings.gradient_surgery = "pcgrad"
    make_recipe(MaskedItem(ENCODER), settings, None)
    assert seen["surgery"]
    settings.gradient_surgery = "pcgrat"
    with pytest.raises(UserError, match="gradient_surgery = 'pcgrat'; known: none, pcgrad"):
        make_recipe(MaskedItem(ENCODER), settings, None)


def test_ema_decay_keeps_an_average(settings):
    task = MaskedItem(ENCODER)
    seeds = jax.ShapeDtypeStruct((2,), jnp.uint32)

    def state_of(settings):
        recipe = make_recipe(task, settings, None)
        return jax.eval_shape(recipe.create, jax.eval_shape(recipe.init_params, seeds), seeds)

    assert state_of(settings).average is None
    settings.ema_decay = 0.99
    average = state_of(settings).average
    assert jax.tree.structure(average) == jax.tree.structure(state_of(settings).params)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optimizer", "adamm", "optimizer 'adamm' is unknown; known: adamw"),
        ("ema_decay", 1.0, r"ema_decay must be in \[0, 1\), got 1.0"),
        ("freeze", ("encoder/embeding.*",), "matches no parameter; near: encoder/embedding"),
    ],
)
def test_setting_that_cannot_be_is_an_error_of_the_user(key, value, message, settings):
    settings[key] = value
    with pytest.raises(UserError, match=message):
        optimizer_of(settings, SmallTask())


def test_dropout_rates_change_the_training_loss_and_nothing_else():
    rows = TrainBatches(
        [[ListSource(make_records("sequences", 8))]],
        batch_size=2,
        max_len=16,
        num_gap_bins=8,
        seeds=(0,),
    )
    batch = {name: jnp.asarray(value[0]) for name, value in next(iter(rows)).items()}
    keys = jax.random.split(jax.random.key(0), 2)

    def losses(**rates):
        config = smoke.get_config()
        config.prepare.num_gap_bins = 8
        config.model.update(dropout_rate=0.0, attention_dropout_rate=0.0)
        config.model.update(rates)
        sizes = {"vocab_size": TABLE.vocab_size, "num_categories": 6}
        task = MaskedItem(make_encoder(config, **sizes, platform="cpu"))
        params = task.init(jax.random.key(0))
        constants = {"item_category": jnp.asarray(TABLE.category_id)}

        @jax.jit
        def run(params):
            return [
                task.loss(params, batch, constants, keys=keys, train=train)["masked_item"][0]
                for train in (True, False)
            ]

        return np.array(run(params))

    base = losses()
    for key in ("dropout_rate", "attention_dropout_rate"):
        train, judged = losses(**{key: 0.5})
        assert train != base[0] and judged == base[1]


def test_arm_settings_decide_what_a_batch_holds(tmp_path, monkeypatch):
    """The share of synthetic records of a step, for all arms or one, and where they enter."""
    config = smoke.get_config()
    config.expansion.arms = {"plain": {"hmm_users": 1.0}, "own": {"hmm_users": 1.0}}
    made = make_experiment(config, tmp_path, monkeypatch)
    drawn = ListSource([{**record, "source": 1} for record in make_records("sequences", 24, 1)])
    monkeypatch.setattr(type(made), "synthetic", lambda self, arm, seed: drawn)

    def sources(arm, stage="pretraining"):
        again = replace(made)  # settings are read once
        again.__dict__["items"] = made.items
        training = getattr(again, stage)(*(("next_item", arm) if stage == "finetuning" else (arm,)))
        batch = next(training.batches)
        return set(batch["sources"][batch["segments"] > 0].tolist())

    assert sources("plain") == {0, 1} and sources("plain", "finetuning") == {0}
    config.expansion.synthetic_share = ((0.0, 1.0), (1.0, 0.0))
    config.expansion.overrides = {"own": {"synthetic_share": ((0.0, 0.0),), "use_in": "both"}}
    assert sources("plain") == {1} and sources("own") == {0}
    config.expansion.overrides = {"own": {"use_in": "finetune"}}
    assert sources("own", "finetuning") == {1} and sources("own") == {0}
    config.expansion.use_in = "sometimes"
    with pytest.raises(UserError, match="config.expansion: use_in = 'sometimes' is unknown"):
        sources("plain")


def test_clicks_of_draws_enter_where_the_arm_says(tmp_path, monkeypatch):
    config = smoke.get_config()
    config.expansion.arms = {"plain": {"hmm_users": 1.0}}
    config.expansion.use_in = "finetune"
    made = make_experiment(config, tmp_path, monkeypatch)
    drawn = ListSource([{**r, "item": 7, "label": 0.25} for r in make_records("click", 24, 1)])
    monkeypatch.setattr(type(made), "synthetic", lambda self, arm, seed, kind: drawn)

    def labels(arm):
        again = replace(made)  # settings are read once
        again.__dict__["items"] = made.items
        return set(np.unique(next(again.finetuning("click", arm).batches)["label"]).tolist())

    assert labels("plain") == {0.0, 1.0}, "off by default"
    config.expansion.clicks.per_user = 2
    assert 0.25 in labels("plain") and labels("real") == {0.0, 1.0}
    config.expansion.synthetic_share = ((0.0, 1.0),)
    assert labels("plain") == {0.25}
    config.expansion.use_in = "pretrain"
    assert labels("plain") == {0.0, 1.0}


@pytest.mark.slow
def test_fresh_rows_are_an_arms_own_and_drawn_by_each_members_generator(tmp_path, monkeypatch):
    config = smoke.get_config()
    config.expansion.arms = {"plain": {"hmm_users": 1.0}, "fresh": {"hmm_users": 1.0}}
    config.expansion.overrides = {"fresh": {"fresh_share": 1.0, "use_in": "both"}}
    made = make_experiment(config, tmp_path, monkeypatch)
    drawn = ListSource(make_records("sequences", 24, 1))
    monkeypatch.setattr(type(made), "synthetic", lambda self, arm, seed: drawn)
    folder = tmp_path / "expansion" / "generators"
    folder.mkdir(parents=True)
    for seed in made.context.seeds:
        save_generator(folder / f"seed_{seed}.npz", fit_tiny_generator(config, made, seed))
    plain, fresh = made.pretraining("plain"), made.pretraining("fresh")
    assert "fresh" not in plain.constants and "fresh" in fresh.constants
    batch = made.context.engine.put_member_batch(with_rows(next(plain.batches)))
    changed = {**batch, "items": batch["items"][:, ::-1]}  # rows that are not read
    losses = []
    for training, given in ((plain, batch), (plain, changed), (fresh, batch), (fresh, changed)):
        seeds = jnp.asarray(made.context.seeds, "uint32")
        constants = made.context.engine.put_constants(dict(training.constants))
        state = training.create(training.init_params(seeds), seeds)
        losses.append(np.asarray(training.step(state, given, constants)[1]["train/loss"]))
        assert training.flops(batch) > 0
    assert (losses[0] != losses[1]).all() and (losses[2] == losses[3]).all()
    assert "fresh" in made.finetuning("next_item", "fresh").constants
    assert "fresh" not in made.finetuning("click", "fresh").constants


@pytest.mark.slow
def test_soft_targets_are_an_arms_own_and_taught_by_each_members_generator(tmp_path, monkeypatch):
    config = smoke.get_config()
    config.expansion.arms = {"plain": {"hmm_users": 1.0}, SOFT: {"hmm_users": 1.0}}
    config.expansion.overrides = {SOFT: {"soft_targets": 0.5, "use_in": "both"}}
    config.pretrain.objectives.update(masked_item=0.0, next_item=1.0)
    made = make_experiment(config, tmp_path, monkeypatch)
    drawn = ListSource(make_records("sequences", 24, 1))
    monkeypatch.setattr(type(made), "synthetic", lambda self, arm, seed: drawn)
    folder = tmp_path / "expansion" / "generators"
    folder.mkdir(parents=True)
    for seed in made.context.seeds:
        state = fit_tiny_generator(config, made, seed)
        save_generator(folder / f"seed_{seed}.npz", state)
    plain, soft = made.pretraining("plain"), made.pretraining(SOFT)
    assert "teacher" not in plain.constants and "teacher" in soft.constants
    losses = []
    for training in (plain, soft):
        seeds = jnp.asarray(made.context.seeds, "uint32")
        batch = made.context.engine.put_member_batch(with_rows(next(plain.batches)))
        constants = made.context.engine.put_constants(dict(training.constants))
        state = training.create(training.init_params(seeds), seeds)
        losses.append(np.asarray(training.step(state, batch, constants)[1]["train/loss"]))
        assert training.flops(batch) > 0
    assert (losses[0] != losses[1]).all()
    assert "fresh" not in soft.constants
    assert "teacher" in made.finetuning("next_item", SOFT).constants
    assert "teacher" not in made.generator_training("transformer").constants
    clicks = [made.finetuning("click", arm) for arm in ("plain", SOFT)]
    assert "teacher" not in clicks[1].constants and clicks[0].step is clicks[1].step
    config.pretrain.objectives.update(masked_item=1.0, next_item=0.0)
    with pytest.raises(UserError, match="soft_targets needs the objective next_item"):
        made.pretraining(SOFT)


def fit_tiny_generator(config, experiment, seed):
    settings = dict(config.expansion.hmm) | {"num_states": 2, "num_iterations": 1}
    items = experiment.items
    return fit_generator(
        experiment.examples("sequences", "train"),
        GeneratorConfig(**settings),
        seed,
        vocab_size=items.vocab_size,
        num_actions=len(config.data.actions),
        num_gap_bins=config.prepare.num_gap_bins,
        facts=ItemFacts(items.category_id, items.price_band, None),
    )
