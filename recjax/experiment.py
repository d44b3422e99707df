"""Which model is trained on what, with which budget: arms x seeds x tasks.

An arm is a choice of training data ("real", or real plus a mix of synthetic behaviour). All arms
have the same model, steps, batches and selection; all seeds of an arm train together, a leading
member axis. The stages pretrain, finetune, evaluate and recommend read their arms from here.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from recjax.context import Context
from recjax.data import examples, items, loading
from recjax.errors import UserError
from recjax.metrics import ndcg_at, ranks_and_top_items
from recjax.models import EncoderConfig
from recjax.optim import OptimizerConfig, make_optimizer
from recjax.step import Task
from recjax.tasks import Click, MaskedItem, NextItem
from recjax.train import LoopConfig, Training, load_best, with_rows

Tree = Any
Batch = Mapping[str, np.ndarray]

REAL = "real"
CACHE_BYTES = 1 << 30  # decoded examples kept in memory per source list


@dataclass(frozen=True)
class Experiment:
    """The plan of one run, read from its config and its prepared data."""

    context: Context

    @property
    def arms(self) -> tuple[str, ...]:
        """Arm names, the real-only arm first."""
        return (REAL, *self.context.config.expansion.arms)

    @cached_property
    def item_table(self) -> items.ItemTable:
        """Catalogue columns by item id."""
        return items.read_items(self.context.workdir / "prepared" / "items.parquet")

    @cached_property
    def encoder(self) -> EncoderConfig:
        """The encoder that every arm and task shares."""
        config, table = self.context.config, self.item_table
        return EncoderConfig(
            **{**config.model, "inputs": tuple(config.model.inputs)},
            vocab_size=table.vocab_size,
            num_actions=len(config.data.actions),
            num_gap_bins=config.prepare.num_gap_bins,
            num_categories=int(table.category_id.max(initial=0)) + 1,
        )

    @cached_property
    def constants(self) -> dict[str, np.ndarray]:
        """Arrays by item id that the model looks up, arguments of every step."""
        return {"item_category": self.item_table.category_id.astype(np.int32)}

    def examples(self, name: str, split: str) -> examples.Source:
        """Opens prepared examples, cached in memory up to a bound."""
        source = examples.open_examples(self.context.workdir / "prepared" / "examples", name, split)
        return examples.CachedSource(source, CACHE_BYTES)

    def has_examples(self, name: str, split: str) -> bool:
        """Returns whether prepare wrote at least one such example."""
        return (
            examples.count_examples(self.context.workdir / "prepared" / "examples", name, split) > 0
        )

    def training_sources(self, arm: str, stage: str) -> list[examples.Source]:
        """Returns one source per member: real users, and the member's synthetic ones."""
        real = self.examples("sequences", "train")
        use_in = self.context.config.expansion.use_in
        if arm == REAL or use_in not in (stage, "both"):
            return [real] * len(self.context.seeds)
        return [
            examples.concatenate([real, self.synthetic(arm, seed)]) for seed in self.context.seeds
        ]

    def synthetic(self, arm: str, seed: int) -> examples.Source:
        """Opens the draws of one arm and seed."""
        folder = self.context.workdir / "expansion" / arm / f"seed_{seed}"
        return examples.CachedSource(
            examples.open_examples(folder, "sequences", "train"), CACHE_BYTES
        )

    # ---- tasks ----

    def pretrain_task(self) -> Task:
        """Returns the pretraining task by name."""
        config = self.context.config.pretrain
        if config.objective == "masked_item":
            return MaskedItem(self.encoder, config.mask_rate, config.loss_chunk)
        if config.objective == "next_item":
            return NextItem(self.encoder, causal=True, loss_chunk=config.loss_chunk)
        raise UserError(
            f"config.pretrain.objective = {config.objective!r} is unknown; "
            "known: masked_item, next_item"
        )

    def finetune_task(self, name: str) -> Task:
        """Returns a fine-tuning task by name."""
        config = self.context.config.finetune
        if name == "next_item":
            settings = config.next_item
            return NextItem(self.encoder, causal=settings.causal, loss_chunk=settings.loss_chunk)
        if name == "click":
            return Click(self.encoder, hidden_dims=tuple(config.click.hidden_dims))
        raise UserError(f"config.finetune.tasks: unknown task {name!r}; known: next_item, click")

    # ---- judging ----

    def rank_function(self, task: NextItem | MaskedItem, top_n: int) -> Callable[..., Any]:
        """Compiles (params [M, ...], batch [B, ...], constants) -> ranks [M, B], tops [M, B, n]."""
        evaluate = self.context.config.evaluate

        def ranks(params: Tree, batch: Tree, constants: Tree) -> tuple[jax.Array, ...]:
            def member(params: Tree) -> tuple[jax.Array, ...]:
                queries = task.queries(params, batch, constants)
                table, bias = task.item_table(params)
                return ranks_and_top_items(
                    queries, table, bias, batch["target"], batch["history"],
                    item_chunk=evaluate.item_chunk, top_n=top_n,
                    mask_history=evaluate.mask_history,
                )  # fmt: skip

            return jax.lax.map(member, params)

        return self.context.engine.compile_rows(ranks)

    def rank_batches(self, split: str, limit: int) -> list[Batch]:
        """Returns the evaluation batches of a split, at most about `limit` examples (0 = all)."""
        source = examples.subset(self.examples("next_item", split), limit)
        return list(self.iterate_rank_batches(source))

    def iterate_rank_batches(self, source: examples.Source) -> Any:
        """Yields evaluation batches of any source of next_item examples."""
        config = self.context.config
        self.context.engine.check_rows(config.evaluate.batch_size)
        return loading.evaluation_batches(
            source, config.evaluate.batch_size, config.model.max_len, config.prepare.num_gap_bins
        )

    def next_item_validator(self, task: NextItem | MaskedItem) -> Callable[[Tree], np.ndarray]:
        """Returns params -> NDCG@10 [M] over (a subset of) the validation users."""
        engine = self.context.engine
        function = self.rank_function(task, top_n=1)
        constants = engine.replicate(self.constants)
        batches = self.rank_batches("valid", self.context.config.evaluate.max_valid_users)
        on_device = [(engine.put_batch(batch), batch["row_mask"]) for batch in batches]

        def validate(params: Tree) -> np.ndarray:
            ranks = [
                np.asarray(function(params, batch, constants)[0])[:, mask]
                for batch, mask in on_device
            ]
            return np.asarray(jnp.mean(ndcg_at(np.concatenate(ranks, axis=1), 10), axis=1))

        return validate

    def score_function(self, task: Click) -> Callable[..., Any]:
        """Compiles (params [M, ...], batch [B, ...], constants) -> click logits [M, B]."""

        def scores(params: Tree, batch: Tree, constants: Tree) -> jax.Array:
            return jax.lax.map(lambda member: task.scores(member, batch, constants), params)

        return self.context.engine.compile_rows(scores)

    def click_batches(self, split: str, limit: int) -> list[Batch]:
        """Returns click batches of a split, every example exactly once."""
        config = self.context.config
        self.context.engine.check_rows(config.evaluate.batch_size)
        source = examples.subset(self.examples("click", split), limit)
        return list(
            loading.click_batches(
                source,
                config.evaluate.batch_size,
                config.model.max_len,
                config.prepare.num_gap_bins,
            )
        )

    def click_validator(self, task: Click) -> Callable[[Tree], np.ndarray]:
        """Returns params -> AUC [M] on (a subset of) the validation impressions."""
        from recjax.evaluation.calibration import auc

        engine = self.context.engine
        function = self.score_function(task)
        constants = engine.replicate(self.constants)
        batches = self.click_batches("valid", self.context.config.evaluate.max_valid_users)
        on_device = [(engine.put_batch(batch), batch["row_mask"]) for batch in batches]
        labels = np.concatenate([batch["label"][batch["row_mask"]] for batch in batches])

        def validate(params: Tree) -> np.ndarray:
            logits = [
                np.asarray(function(params, batch, constants))[:, mask] for batch, mask in on_device
            ]
            return np.array([auc(row, labels) for row in np.concatenate(logits, axis=1)])

        return validate

    # ---- trainings ----

    def pretraining(self, arm: str) -> Training:
        """Returns the pretraining of one arm."""
        task = self.pretrain_task()
        return self._training(
            label=f"pretrain/{arm}",
            task=task,
            settings=self.context.config.pretrain,
            batches=self._sequence_batches(arm, "pretrain"),
            start=None,
            evaluate=self.next_item_validator(task),
            metric_name="ndcg_at_10",
        )

    def finetuning(self, name: str, arm: str) -> Training:
        """Returns the fine-tuning of one task and arm, started from the arm's pretraining."""
        task, settings = self.finetune_task(name), self.context.config.finetune[name]
        ranked = isinstance(task, NextItem)
        return self._training(
            label=f"finetune/{name}/{arm}",
            task=task,
            settings=settings,
            batches=self._sequence_batches(arm, "finetune", settings)
            if ranked
            else self._click_batches(settings),
            start=self._pretrained(arm),
            evaluate=self.next_item_validator(task) if ranked else self.click_validator(task),
            metric_name="ndcg_at_10" if ranked else "auc",
        )

    def best_params(self, name: str, arm: str) -> Tree:
        """Loads the best parameters of a finished fine-tuning, leaves [M, ...]."""
        return load_best(
            self.context.workdir / "finetune" / name / arm,
            self._abstract_params(self.finetune_task(name), self._init_batch(name)),
        )

    def _pretrained(self, arm: str) -> Tree | None:
        config = self.context.config
        if not config.pretrain.num_steps:
            return None
        folder = self.context.workdir / "pretrain" / self.pretrain_arm(arm)
        like = self._abstract_params(self.pretrain_task(), self._init_batch("next_item"))
        return load_best(folder, like)

    def pretrain_arm(self, arm: str) -> str:
        """Returns whose pretraining an arm starts from: its own if draws enter there."""
        return REAL if self.context.config.expansion.use_in == "finetune" else arm

    def _training(
        self,
        *,
        label: str,
        task: Task,
        settings: Any,
        batches: Any,
        start: Tree | None,
        evaluate: Callable[[Tree], np.ndarray],
        metric_name: str,
    ) -> Training:
        config = self.context.config
        first = {name: value[0] for name, value in with_rows(next(iter(batches))).items()}

        def init_params(seeds: jax.Array) -> Tree:
            fresh = jax.vmap(lambda seed: task.init(jax.random.key(seed), first))(seeds)
            return fresh if start is None else task.transfer(start, fresh)

        return Training(
            label=label,
            folder=self.context.workdir / label,
            task=task,
            optimizer=make_optimizer(
                OptimizerConfig(
                    **{name: settings[name] for name in OptimizerConfig.__dataclass_fields__}
                )
            ),
            init_params=init_params,
            batches=iter(batches),
            constants=self.constants,
            evaluate=evaluate,
            metric_name=metric_name,
            seeds=self.context.seeds,
            loop=LoopConfig(
                num_steps=settings.num_steps,
                eval_interval_steps=settings.eval_interval_steps,
                early_stop_evals=settings.early_stop_evals,
                checkpoint_interval_steps=config.checkpoint.interval_steps,
                log_interval_steps=config.logging.interval_steps,
                keep_last=config.checkpoint.keep_last,
                tensorboard=config.logging.tensorboard,
            ),
        )
