"""Fused arms against a direct sum of scores; their weight is chosen on validation alone."""

import jax
import numpy as np
import pytest
from example_records import make_records
from record_experiment import make_experiment

from configs import smoke
from recjax.data.record_sources import ListSource
from recjax.errors import UserError
from recjax.evaluation.ranking import metrics_per_user, rank_scores
from recjax.expansion import GeneratorConfig, ItemFacts, fit_generator, save_generator
from recjax.expansion.generate.next_item import LEAST, next_item_log_scores
from recjax.experiment import Experiment
from recjax.stages import fusion
from recjax.stages.evaluate_next_item import whole_history


@pytest.fixture(scope="module")
def generator():
    config = smoke.get_config().expansion.hmm
    config.num_iterations = 2
    train = make_records("sequences", 24)
    nothing = ItemFacts(np.zeros(45, int), np.zeros(45, int))
    return fit_generator(
        ListSource(train), GeneratorConfig(**config), 0,
        vocab_size=45, num_actions=9, num_gap_bins=16, facts=nothing,
    )  # fmt: skip


@pytest.fixture
def experiment(tmp_path, monkeypatch, generator):
    """The arms are models with fresh parameters; validation and test hold different users."""
    config = smoke.get_config()
    made = make_experiment(config, tmp_path, monkeypatch)
    save_generator(made.context.workdir / "expansion/generators/seed_0.npz", generator)
    sources = {
        p: ListSource(make_records("next_item", 13, s)) for s, p in enumerate(("valid", "test"))
    }
    monkeypatch.setattr(Experiment, "examples", lambda self, kind, part: sources[part])
    task = made.next_item_task()

    def params(self, name, arm):
        seed = int(arm == "expanded")
        return jax.tree.map(lambda leaf: leaf[None], task.init(jax.random.key(seed), {}))

    monkeypatch.setattr(Experiment, "best_params", params)
    return made


def test_fused_ranks_equal_those_of_summed_scores(experiment, generator):
    config = experiment.context.config.evaluate
    config.fusion_weights = (0.5,)
    found = fusion.rank_fused(experiment)
    assert list(found) == ["fused", "expanded_fused"]
    records = experiment.examples("next_item", "test").__getitems__(range(13))
    ranker = experiment.ranker(experiment.next_item_task(), top_n=0)
    hints = np.concatenate([next_item_log_scores(generator, [r], 1, 45) for r in records])
    for arm, name in (("real", "fused"), ("expanded", "expanded_fused")):
        params = experiment.best_params("next_item", arm)
        batches = experiment.rank_batches(experiment.judged("next_item"))
        scores = np.concatenate([ranker.scores(params, batch)[0] for batch in batches])[:13, :45]
        targets = np.array([record["target_item"] for record in records])
        histories = [whole_history(record) for record in records]
        expected = rank_scores(scores + 0.5 * hints, targets, histories, mask_history=True)
        ranks, weight = found[name]
        np.testing.assert_allclose(ranks, expected[None], atol=1)  # batch by batch, sums differ
        assert weight == 0.5 and (ranks[0] == expected).mean() > 0.9


def test_weight_is_that_of_the_best_validation_ndcg_whatever_the_test_part_says(experiment):
    config = experiment.context.config.evaluate
    config.fusion_weights = weights = (0.0, 0.3, 3.0)
    chosen = {arm: weight for arm, (_, weight) in fusion.rank_fused(experiment).items()}
    values = {}
    config.part = "valid"  # so that the ranks are those of validation
    for weight in weights:
        config.fusion_weights = (weight,)
        for arm, (ranks, _) in fusion.rank_fused(experiment).items():
            values[arm, weight] = metrics_per_user(ranks, (10,))["ndcg_at_10"].mean()
    for arm, weight in chosen.items():
        assert weight == max(weights, key=lambda weight: values[arm, weight])
    ranks = np.array([[[20.0, 30.0]], [[20.0, 3.0]], [[3.0, 20.0]]])
    assert fusion.choose_weight(ranks, weights) == 0.3  # the first of equals


def test_nothing_is_fused_without_weights_or_generator(experiment):
    experiment.context.config.evaluate.fusion_weights = ()
    assert fusion.rank_fused(experiment) == {}
    experiment.context.config.evaluate.fusion_weights = (1.0,)
    (experiment.context.workdir / "expansion/generators/seed_0.npz").unlink()
    assert fusion.rank_fused(experiment) == {}


def test_part_that_does_not_exist_is_named(experiment):
    experiment.context.config.evaluate.part = "train"
    with pytest.raises(UserError, match="evaluate.part = 'train'; known: test, valid"):
        experiment.judged("next_item")


def test_generator_scores_are_distributions_and_pass_over_what_it_does_not_know(generator):
    record = make_records("sequences", 1, seed=3)[0]
    (scores,) = next_item_log_scores(generator, [record], 2, 50)
    assert np.exp(scores[generator.item_ids]).sum() == pytest.approx(1, abs=1e-4)
    unknown = np.setdiff1d(np.arange(50), generator.item_ids)
    assert {0, 49} <= set(unknown.tolist()) and (scores[unknown] == LEAST).all()
    strange = {**record, "items": np.append(record["items"], np.int32(49))}
    strange |= {name: np.append(record[name], record[name][-1:]) for name in ("actions", "times")}
    np.testing.assert_array_equal(next_item_log_scores(generator, [strange], 2, 50)[0], scores)
