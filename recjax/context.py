"""What every stage is handed: resolved config, work directory, progress and devices."""

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from ml_collections import ConfigDict

from recjax.errors import UserError
from recjax.logs import Progress
from recjax.parallel import Engine, make_engine
from recjax.workdir import Workdir, read_json


@dataclass(frozen=True)
class Context:
    """One run; made by `main`, handed to each stage."""

    config: ConfigDict
    workdir: Workdir
    progress: Progress

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds of every arm's members."""
        return tuple(range(self.config.seed, self.config.seed + self.config.num_seeds))

    @cached_property
    def engine(self) -> Engine:
        """The engine over the config's mesh; made on first use, since it starts the backend."""
        parallel = self.config.parallel
        try:
            return make_engine(parallel.engine, dict(parallel.mesh))
        except ValueError as error:
            raise UserError(str(error)) from error


def read_config(workdir: Workdir) -> ConfigDict:
    """Returns the config that a run was made with."""
    return ConfigDict(_with_tuples(read_json(workdir / "config.json")["config"]))


def _with_tuples(value: Any) -> Any:
    """Returns a JSON value with the tuples that JSON made lists of."""
    if isinstance(value, dict):
        return {name: _with_tuples(part) for name, part in value.items()}
    return tuple(map(_with_tuples, value)) if isinstance(value, list) else value
