import numpy as np
import pyarrow as pa
import pytest

from configs import default
from recjax.data.feature_settings import make_features
from recjax.data.features import FeatureSchema
from recjax.errors import UserError

DEFAULTS = default.get_config().prepare.feature.to_dict()
TRAIN = pa.table(
    {
        "city": ["b", "a", "b", None, "b", "a", "rare", ""],
        "home": ["a", "c", "c", "c", "a", "a", "c", "b"],
        "tags": ["x,y", "x", "", None, "y , x,z", "x", "x,x", "q"],
        "price": ["1", "2", "3", "4", "", "6", "7", "8"],
        "age": [10.0, 20.0, 30.0, 40.0, 50.0, 60.0, np.nan, 80.0],
    }
)


def schema_of(train=TRAIN, **features):
    return FeatureSchema.fit(make_features(DEFAULTS, features), train)


def test_category_gets_a_row_by_frequency_and_the_first_for_what_training_does_not_know():
    schema = schema_of(city={"min_count": 2})
    assert schema.vocabularies["city"] == ["b", "a"] and schema.num_rows == 3
    encoded = schema.encode(TRAIN)
    assert encoded.ids[:, 0].tolist() == [1, 2, 1, 0, 1, 2, 0, 0]
    assert encoded.values.min() == 1 == encoded.values.max()
    new = schema.encode(pa.table({"city": ["zzz", "a"]}))
    assert new.ids[:, 0].tolist() == [0, 2]


def test_features_of_one_table_share_rows_and_others_lie_behind_it():
    shared = {"table": "places"}
    schema = schema_of(city=shared, tags={"kind": "tags"}, home=shared)
    encoded = schema.encode(TRAIN)
    city, home = encoded.ids[:, 0], encoded.ids[:, -1]
    assert city[1] == home[0] and city[0] == home[7]
    assert schema.num_rows == (1 + len(schema.vocabularies["places"])) + (1 + 4)
    tags = encoded.ids[:, 1:-1]
    assert tags.min() == 1 + len(schema.vocabularies["places"])
    with pytest.raises(UserError, match="city, home share the table 'places', so min_count"):
        schema_of(city=shared, home=shared | {"min_count": 2})


def test_tags_are_averaged_and_cut():
    schema = schema_of(tags={"kind": "tags", "max_values": 2})
    encoded = schema.encode(TRAIN)
    assert schema.slots == (2,)
    sums = encoded.values.sum(axis=1)
    assert sums.tolist() == [1, 1, 0, 0, pytest.approx(1), 1, 1, 1]
    assert (encoded.values[4] == 0.5).all()
    x, y = (1 + schema.vocabularies["tags"].index(tag) for tag in "xy")
    assert encoded.ids[4].tolist() == [y, x]


def test_numbers_are_standardised_or_bucketed_and_miss_in_a_row_of_their_own():
    number = {"kind": "number"}
    schema = schema_of(price=number, age=number | {"num_buckets": 4})
    encoded = schema.encode(TRAIN)
    known = np.array([1, 2, 3, 4, 6, 7, 8])
    price = np.delete(encoded.values[:, 0], 4)
    np.testing.assert_allclose(price, (known - known.mean()) / known.std(), rtol=1e-6)
    assert encoded.ids[:, 0].tolist() == [1, 1, 1, 1, 0, 1, 1, 1] and encoded.values[4, 0] == 1
    buckets = encoded.ids[:, 1] - schema.first_row(schema.features[1])
    assert buckets[6] == 0 and set(buckets) == {0, 1, 2, 3, 4}
    assert (np.diff(np.delete(buckets, 6)) >= 0).all() and schema.num_rows == 2 + 5
    log = schema_of(price=number | {"scale": "log"}).encode(TRAIN).values[:, 0]
    assert log[1] - log[0] > log[7] - log[6]
    with pytest.raises(UserError, match=r"features.city is a number, but column 'city' holds"):
        schema_of(city=number)


def test_hashes_need_no_vocabulary_and_two_of_them_tell_apart_what_one_does_not():
    names = pa.table({"city": [f"c{i}" for i in range(200)]})
    one = schema_of(names, city={"hash_rows": 50})
    assert one.vocabularies == {} and one.num_rows == 51
    alone = one.encode(names).ids
    assert alone.min() >= 1 and alone.max() <= 50
    two = schema_of(names, city={"hash_rows": 50, "num_hashes": 2}).encode(names).ids
    assert two.shape == (200, 2)
    distinct = [len(np.unique(ids, axis=0)) for ids in (alone, two)]
    assert distinct[0] <= 50 < 180 < distinct[1]
    np.testing.assert_array_equal(one.encode(names.slice(7, 1)).ids[0], alone[7])


def test_saved_schema_encodes_alike(tmp_path):
    schema = schema_of(city={}, tags={"kind": "tags"}, price={"kind": "number", "num_buckets": 3})
    schema.save(tmp_path / "features.json")
    again = FeatureSchema.load(tmp_path / "features.json")
    np.testing.assert_array_equal(again.encode(TRAIN).ids, schema.encode(TRAIN).ids)
    np.testing.assert_array_equal(again.encode(TRAIN).values, schema.encode(TRAIN).values)
    assert again.num_rows == schema.num_rows and again.slots == schema.slots


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"kind": "categorical"}, "features.city.kind = 'categorical'; give one of: category"),
        ({"mincount": 3}, "features.city.mincount is unknown; a feature has: column"),
        ({"min_count": 0}, "features.city.min_count = 0; give at least 1"),
        ({"kind": "tags", "separator": ""}, "separator = ''; give the text that stands between"),
    ],
)
def test_wrong_setting_is_named(settings, message):
    with pytest.raises(UserError, match=message):
        make_features(DEFAULTS, {"city": settings})


def test_no_feature_at_all_is_refused():
    with pytest.raises(UserError, match="config.prepare.features is empty"):
        schema_of()
