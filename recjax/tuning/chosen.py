"""Settings into a config, and a config back into a file that is ready to run."""

import difflib
from collections.abc import Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from recjax.errors import UserError
from recjax.tuning.study import Trial


def with_settings(config: ConfigDict, settings: Mapping[str, Any]) -> ConfigDict:
    """Returns a copy of the config in which the dotted keys have these values.

    Raises:
        UserError: naming a key that does not exist, or a value of another type than the key's.
    """
    changed = config.copy_and_resolve_references()
    for key, value in settings.items():
        *path, leaf = key.split(".")
        section = changed
        for place, name in enumerate((*path, leaf)):
            _check_name(section, name, key)
            section = section[name] if place < len(path) else section
        try:
            section[leaf] = value
        except TypeError as error:
            raise UserError(
                f"config.tune.space: {key} = {value!r} is of the wrong type; the key's is "
                f"{type(section[leaf]).__name__}"
            ) from error
    return changed


def render_config(config: ConfigDict, trial: Trial, num_trials: int) -> str:
    """Returns a config file that gives `config`, which has the chosen trial's settings.

    The file starts from configs/default.py and sets all that differs, so that it holds what flags
    changed too and needs no other file.
    """
    from configs import default

    lines = [
        f"    config.{key} = {_literal(value)}"
        for key, value in _differences(default.get_config(), config)
    ]
    chosen = [f"    {key} = {value!r}" for key, value in trial.settings.items()]
    return _FILE.format(
        name=config.name,
        arm=trial.arm,
        number=trial.number,
        num_trials=num_trials,
        num_seeds=len(trial.per_seed),
        metric=trial.metric,
        mean=trial.mean,
        chosen="\n".join(chosen),
        lines="\n".join(lines),
    )


_FILE = '''"""{name}, with the settings that the tune stage chose for the arm {arm!r}.

Trial {number} of {num_trials}: {metric} {mean:.4f} on validation, {num_seeds} seed(s):

{chosen}

Command:  python -m recjax.main --config THIS_FILE --workdir WORKDIR
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    """Returns the configuration with the chosen settings."""
    config = default.get_config()
{lines}
    return config
'''


def _check_name(section: Any, name: str, key: str) -> None:
    names = list(section) if isinstance(section, ConfigDict) else []
    if name in names:
        return
    near = difflib.get_close_matches(name, names, 1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise UserError(
        f"config.tune.space: config key {key!r} does not exist{hint} (configs/default.py lists all)"
    )


def _differences(
    default: ConfigDict, config: ConfigDict, prefix: str = ""
) -> Iterator[tuple[str, Any]]:
    """Yields (dotted key, value) of what differs; a section with other names is one value."""
    for name, value in config.items():
        base = default[name]
        sections = isinstance(value, ConfigDict) and isinstance(base, ConfigDict)
        if sections and set(value) == set(base):
            yield from _differences(base, value, f"{prefix}{name}.")
        elif value != base:
            yield f"{prefix}{name}", value


def _literal(value: Any) -> str:
    return f"ConfigDict({value.to_dict()!r})" if isinstance(value, ConfigDict) else repr(value)
