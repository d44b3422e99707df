"""TextBert against transformers' PyTorch BERT: live where PyTorch is, else by golden values.

The golden folders were written by transformers itself; `tests/make_bert_golden.py` makes them anew.
"""

import jax
import numpy as np
import pytest
from make_bert_golden import (
    FOLDER,
    MODELS,
    SIZES,
    expected_outputs,
    random_batch,
    random_model,
)

from recjax.models import TextBert, read_bert, to_text_config, write_bert

TOLERANCE = 1e-5
INPUTS = ("tokens", "token_types", "segments")
HEADS_OF = {
    "BertModel": ("pooler",),
    "BertForMaskedLM": ("masked_token",),
    "BertForPreTraining": ("pooler", "masked_token", "next_sentence"),
}
WIDE = {"vocab_size": 50, "hidden_size": 24, "num_attention_heads": 3, "num_hidden_layers": 3}


def _outputs(config, params, batch):
    """Returns hidden, and what the heads among the parameters say."""
    model, variables = TextBert(config), {"params": params}

    def run(variables):
        x = model.apply(variables, batch, method="embed")
        hidden = model.apply(variables, x, batch, False, method="encode")
        found = {"hidden": hidden}
        if "pooler" in params:
            found["pooled"] = model.apply(variables, batch).pooled
        if "masked_token" in params:
            found["masked_token"] = model.apply(variables, hidden, method="masked_token_logits")
        if "next_sentence" in params:
            found["next_sentence"] = model.apply(
                variables, found["pooled"], method="next_sentence_logits"
            )
        return found

    return jax.tree.map(np.asarray, jax.jit(run)(variables))


def _assert_equal(found, expected, segments):
    """Compares what both have; rows of padding mean nothing."""
    assert found.keys() >= expected.keys() - set(INPUTS)
    for name in expected.keys() - set(INPUTS):
        one, two = found[name], expected[name]
        if name in ("hidden", "masked_token"):
            one, two = one[segments > 0], two[segments > 0]
        assert np.abs(two).max() > 0.1, f"{name} is too small to tell anything"
        np.testing.assert_allclose(one, two, atol=TOLERANCE, rtol=0, err_msg=name)


@pytest.mark.parametrize("name", MODELS)
def test_golden_values_of_pytorch_are_met(name):
    expected = dict(np.load(FOLDER / name / "expected.npz"))
    batch = {key: expected[key] for key in INPUTS}
    found = _outputs(*read_bert(FOLDER / name), batch)
    _assert_equal(found, expected, batch["segments"])


@pytest.mark.parametrize("changed", ["token_types", "segments"])
def test_golden_values_need_token_types_and_the_mask(changed):
    expected = dict(np.load(FOLDER / "BertModel" / "expected.npz"))
    batch = {key: expected[key] for key in INPUTS}
    spoiled = batch | {changed: np.ones_like(batch[changed])}
    found = _outputs(*read_bert(FOLDER / "BertModel"), spoiled)
    with pytest.raises(AssertionError):
        _assert_equal(found, expected, batch["segments"])


@pytest.fixture
def transformers():
    pytest.importorskip("torch", reason="parity with PyTorch needs: pip install torch")
    import transformers

    transformers.utils.logging.disable_progress_bar()
    return transformers


@pytest.mark.parametrize("sizes", [{}, WIDE], ids=["tiny", "wide"])
@pytest.mark.parametrize("name", MODELS)
def test_a_model_of_transformers_gives_the_same_numbers_here(transformers, tmp_path, name, sizes):
    model = random_model(name, 7, **sizes)
    model.save_pretrained(tmp_path / "theirs")
    batch = random_batch(8, model.config.vocab_size, 2)
    config, params = read_bert(tmp_path / "theirs")
    _assert_equal(
        _outputs(config, params, batch), expected_outputs(model, batch), batch["segments"]
    )


@pytest.mark.parametrize("name", MODELS)
def test_our_folder_loads_in_transformers_whole_and_gives_the_same_numbers(
    transformers, tmp_path, random_params, name
):
    config = to_text_config(transformers.BertConfig(**SIZES))
    params = random_params(config, HEADS_OF[name])
    write_bert(tmp_path / "ours", config, params)
    model, report = getattr(transformers, name).from_pretrained(
        tmp_path / "ours", output_loading_info=True
    )
    assert not any(report[f"{kind}_keys"] for kind in ("missing", "unexpected", "mismatched"))
    batch = random_batch(9, config.vocab_size, config.num_token_types)
    found = _outputs(config, params, batch)
    _assert_equal(found, expected_outputs(model.eval(), batch), batch["segments"])
