from dataclasses import replace

import pytest
from small_params import CONFIG


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("optimizer", "adamm", "optimizer 'adamm' is unknown; known: adamw"),
        ("schedule", "cosin", "schedule 'cosin' is unknown; known: constant"),
        ("table_optimizer", "adam_row", "table_optimizer 'adam_row' is unknown; known: same"),
        ("learning_rate", -1.0, "learning_rate must be between 0 and inf, got -1.0"),
        ("layer_decay", 0.0, "layer_decay must be between 1e-06 and 1, got 0.0"),
        ("layer_decay", 1.1, "layer_decay must be"),
        ("decay_share", 2.0, "decay_share must be"),
        ("beta2", 1.0, "beta2 must be"),
        ("l2", -0.1, "l2 must be"),
    ],
)
def test_setting_that_cannot_be_is_refused_by_name(key, value, message):
    with pytest.raises(ValueError, match=message):
        replace(CONFIG, **{key: value})
