"""Settings of an optimizer, checked before anything is traced."""

from dataclasses import dataclass

SCHEDULES = ("constant", "linear", "cosine", "rsqrt", "wsd")
OPTIMIZERS = ("adamw", "adam", "sgd", "lamb", "adafactor", "lion", "muon")
ROW_OPTIMIZERS = ("adagrad_rows", "adam_rows")
TABLE_OPTIMIZERS = ("same", *ROW_OPTIMIZERS, *OPTIMIZERS)


@dataclass(frozen=True)
class OptimizerConfig:
    """Settings of one training; names equal the config keys.

    Attributes:
        optimizer: one of `OPTIMIZERS`, for dense parts.
        learning_rate: the schedule's peak.
        schedule: one of `SCHEDULES`, after the warm-up.
        warmup_steps: of linear warm-up.
        num_steps: at which the schedule ends.
        weight_decay: decoupled, times the learning rate, on kernels; adam and sgd have none.
        clip_norm: largest global norm of the gradient; 0 = off.
        beta2: decay of the second moment (adam, adamw, lamb, muon's Adam, adam_rows), or of
            lion's momentum.
        decay_share: last share of the steps in which "wsd" decays.
        l2: factor of kernels' half squared norm in the loss; as such clipped, and seen by moments.
        table_optimizer: one of `TABLE_OPTIMIZERS`, for embedding tables; "same" as `optimizer`.
        table_learning_rate: the schedule's peak for tables; 0 = `learning_rate`.
        table_l2: as `l2`, of those table rows that have a gradient in the batch.
        layer_decay: factor of the learning rate from each layer to the one below; 1 = off.
        freeze: regular expressions of whole parameter paths that do not move.

    Raises:
        ValueError: if a setting is unknown or out of range, naming it.
    """

    optimizer: str
    learning_rate: float
    schedule: str
    warmup_steps: int
    num_steps: int
    weight_decay: float
    clip_norm: float
    beta2: float
    decay_share: float = 0.2
    l2: float = 0.0
    table_optimizer: str = "same"
    table_learning_rate: float = 0.0
    table_l2: float = 0.0
    layer_decay: float = 1.0
    freeze: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "freeze", tuple(self.freeze))
        for name, known in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("table_optimizer", TABLE_OPTIMIZERS),
        ):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"{name} {getattr(self, name)!r} is unknown; known: {', '.join(known)}"
                )
        for name in ("learning_rate", "table_learning_rate", "warmup_steps", "weight_decay"):
            self._check_range(name, 0, float("inf"))
        for name in ("clip_norm", "l2", "table_l2"):
            self._check_range(name, 0, float("inf"))
        self._check_range("beta2", 0, 0.999999)
        for name in ("decay_share", "layer_decay"):
            self._check_range(name, 1e-6, 1)

    def _check_range(self, name: str, least: float, most: float) -> None:
        value = getattr(self, name)
        if not least <= value <= most:
            raise ValueError(f"{name} must be between {least:g} and {most:g}, got {value}")
