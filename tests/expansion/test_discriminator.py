import numpy as np
import pytest

from recjax.expansion import discriminator
from recjax.expansion.discriminator import fit_discriminator, make_features, tell_apart
from recjax.expansion.fidelity import compute_auc
from recjax.expansion.records import slice_record


def _auc(told):
    return compute_auc(told.real, told.synthetic)


def _shuffle(log):
    rng = np.random.default_rng(0)
    return [{**record, "items": rng.permutation(record["items"])} for record in log]


def test_users_of_one_process_are_not_told_apart_and_shuffled_ones_are(
    real_log, fresh_log, category_of_item
):
    assert abs(_auc(tell_apart(real_log, fresh_log, category_of_item)) - 0.5) < 0.06
    told = tell_apart(real_log, _shuffle(fresh_log), category_of_item)
    assert len(told.real) == len(told.synthetic) == 400
    assert _auc(told) > 0.65


def test_no_user_is_judged_by_a_model_that_saw_it(real_log, category_of_item):
    """Users that share nothing with others can be told by heart alone, and must not be."""
    rng = np.random.default_rng(0)
    wide = np.zeros(10**6, int)
    noise = [{**r, "items": rng.integers(5, 10**6, len(r["items"]))} for r in real_log]
    real, draws = noise[:200], [{**record, "user": -1} for record in noise[200:]]
    model = fit_discriminator(real, draws, wide)
    assert compute_auc(model.score(real), model.score(draws)) > 0.99
    assert abs(_auc(tell_apart(real, draws, wide)) - 0.5) < 0.1
    continued = [{**record, "source": 2} for record in real]
    assert abs(_auc(tell_apart(real, continued, wide)) - 0.5) < 1e-9


def test_same_samples_same_scores_and_too_few_users_none(real_log, fresh_log, category_of_item):
    first, second = (tell_apart(real_log, fresh_log[:50], category_of_item) for _ in range(2))
    np.testing.assert_array_equal(first.synthetic, second.synthetic)
    assert not len(tell_apart([], fresh_log, category_of_item).synthetic)


@pytest.mark.parametrize("field", ["items", "actions", "times"])
def test_every_field_and_the_length_are_seen(field, real_log, category_of_item):
    long_one = max(real_log, key=lambda record: len(record["items"]))
    rows = make_features(
        [long_one, {**long_one, field: long_one[field] ** 2 % 60}], category_of_item
    )
    assert (rows[0] != rows[1]).nnz
    cut = {**long_one, **slice_record(long_one, 0, 3)}
    assert (
        make_features([long_one], category_of_item) != make_features([cut], category_of_item)
    ).nnz


def test_features_are_hashed_counts_of_length_one_per_family(real_log, category_of_item):
    rows = make_features(real_log[:50], category_of_item)
    squares = np.asarray(rows.multiply(rows).sum(axis=1)).ravel()
    assert rows.shape == (50, discriminator._BUCKETS + 1)
    assert np.abs(squares - 9).max() < 0.5  # eight families and the constant, collisions aside
    broken = {**real_log[0], "times": real_log[0]["times"][:1], "items": real_log[0]["items"] - 99}
    assert make_features([broken], category_of_item).shape[0] == 1


def test_logistic_regression_finds_the_least_loss(real_log, fresh_log, category_of_item):
    from sklearn.linear_model import LogisticRegression

    shuffled = _shuffle(fresh_log)
    ours = fit_discriminator(real_log, shuffled, category_of_item)
    features = make_features([*real_log, *shuffled], category_of_item)
    labels = np.arange(800) < 400
    strength = 1 / (discriminator._PENALTY * 800)
    peer = LogisticRegression(C=strength, fit_intercept=False, tol=1e-8, max_iter=1000)
    peer.fit(features, labels)
    assert np.corrcoef(features @ peer.coef_[0], features @ ours.weights)[0, 1] > 0.999
