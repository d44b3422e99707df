import jax
import numpy as np
import pytest
from small_params import flat, make_params, scanned

from recjax.models import unstack_layers
from recjax.optim import decays, depth_scales, frozen, is_table


def chosen(mask):
    return {name for name, value in flat(mask).items() if value}


def test_decay_touches_kernels_only():
    assert {name.rpartition("/")[2] for name in chosen(decays(make_params()))} == {"kernel"}
    assert sum(name.endswith("kernel") for name in flat(make_params())) == len(
        chosen(decays(make_params()))
    )


def test_tables_are_found_by_name():
    assert chosen(is_table(make_params())) == {"encoder/embedding/item/table"}


def test_rules_match_whole_paths():
    names = chosen(frozen(make_params(), ("encoder/layers_0/.*", "head/item_bias")))
    assert "head/item_bias" in names and "encoder/layers_0/mlp_in/kernel" in names
    assert not any("layers_1" in name or "table" in name for name in names)
    assert not chosen(frozen(make_params(), ()))


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("encoder/embeding.*", "matches no parameter; near: .*encoder/embedding/item/table"),
        ("layers_0", "matches no parameter"),  # part of a path is not enough
        ("encoder/(", "no regular expression"),
        (".*", "nothing would train"),
    ],
)
def test_rule_that_cannot_be_is_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        frozen(make_params(), (rule,))


def test_layers_learn_slower_towards_the_input():
    scales = flat(depth_scales(make_params(), 0.5))
    assert scales["head/item_bias"] == 1
    assert scales["encoder/layers_1/norm/scale"] == 0.5
    assert np.all(scales["encoder/layers_0/mlp_in/kernel"] == 0.25)
    assert np.all(scales["encoder/embedding/item/table"] == 0.125)


def test_each_tower_has_a_depth_of_its_own():
    params = make_params()
    short = {name: part for name, part in params["encoder"].items() if name != "layers_1"}
    scales = flat(depth_scales({**params, "text": short}, 0.5))
    assert np.all(scales["text/layers_0/mlp_in/kernel"] == 0.5)
    assert np.all(scales["text/embedding/item/table"] == 0.25)
    assert np.all(scales["encoder/layers_0/mlp_in/kernel"] == 0.25)


def test_scanned_layers_have_the_factors_of_written_out_ones():
    params = make_params()

    def spread(tree, scales):
        return jax.tree.map(lambda p, s: np.broadcast_to(s, p.shape), tree, scales)

    one_by_one = spread(params, depth_scales(params, 0.7))
    stacked = spread(scanned(params), depth_scales(scanned(params), 0.7))
    stacked["encoder"] = unstack_layers(stacked["encoder"])
    for name, value in flat(one_by_one).items():
        np.testing.assert_array_equal(value, flat(stacked)[name])
