import io

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console

from recjax.parallel import make_engine
from recjax.parameter_table import (
    device_bytes,
    list_parameters,
    parameter_table,
    summary_line,
    write_parameters,
)

P = jax.sharding.PartitionSpec
LOGICAL = {"table": P("vocab", "embed"), "block": {"kernel": P("embed", "mlp"), "bias": P("mlp")}}


@pytest.fixture
def tree():
    """Members x parameters, abstract, on a mesh of 2 x 2 x 2."""
    shapes = {"table": (2, 64, 8), "block": {"kernel": (2, 8, 16), "bias": (2, 16)}}
    shapes = jax.tree.map(
        lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32),
        shapes,
        is_leaf=lambda leaf: isinstance(leaf, tuple),
    )
    return make_engine("jit", {"data": 2, "fsdp": 2, "tensor": 2}).abstract(shapes, LOGICAL)


def test_each_parameter_is_listed_with_its_cut_and_bytes(tree):
    found = {parameter.path: parameter for parameter in list_parameters(tree)}
    assert found["table"].spec == "-, fsdp x tensor, -"
    assert found["table"].device_bytes == 2 * 64 * 8 * 4 // 4
    assert found["block/kernel"].spec == "-, fsdp, tensor"
    assert found["block/kernel"].device_bytes == 2 * 8 * 16 * 4 // 4
    assert found["block/bias"].spec == "" and found["block/bias"].device_bytes == 2 * 16 * 4
    assert device_bytes(tree) == sum(parameter.device_bytes for parameter in found.values())


def test_arrays_that_are_there_hold_the_bytes_that_are_told(tree):
    arrays = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, device=leaf.sharding), tree)
    on_first = sum(leaf.addressable_shards[0].data.nbytes for leaf in jax.tree.leaves(arrays))
    assert device_bytes(arrays) == device_bytes(tree) == on_first
    one = {"x": jnp.zeros((3, 5))}  # on one device only
    assert list_parameters(one)[0].spec == "" and device_bytes(one) == 60


def test_summary_names_totals_and_the_largest(tree):
    line = summary_line(list_parameters(tree))
    assert line.startswith("1,312 parameters of all seeds") and line.endswith(" table")


def test_file_has_the_whole_table(tree, tmp_path):
    parameters = list_parameters(tree)
    write_parameters(parameters, tmp_path / "parameters.txt")
    text = (tmp_path / "parameters.txt").read_text()
    for words in ("1,312 parameters", "block/kernel", "[2, 8, 16]", "fsdp x tensor", "float32"):
        assert words in text
    console = Console(file=io.StringIO(), width=160)
    console.print(parameter_table(parameters))
    assert console.file.getvalue() == text
