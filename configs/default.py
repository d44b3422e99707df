"""Every setting of recjax, complete, with unit and meaning; other configs start from this one.

Configs are data: they import ml_collections and each other, nothing else. Code never falls back to
a default of its own, so a key that is not here does not exist. An empty string means "not given".
"""

from ml_collections import ConfigDict


def get_config() -> ConfigDict:
    """Returns the complete, unlocked default configuration."""
    config = ConfigDict()
    config.name = "default"
    config.seed = 0  # the first seed; arm seeds are seed, seed + 1, ...
    config.num_seeds = 3  # members of every arm, trained together on a leading axis
    config.stages = (
        "prepare", "features", "expand", "pretrain", "finetune", "evaluate", "recommend", "report",
    )  # fmt: skip
    config.data = _data()
    config.prepare = _prepare()
    config.features = _features()
    config.expansion = _expansion()
    config.model = _model()
    config.pretrain = _item_training(num_steps=1000, learning_rate=1e-3)
    config.pretrain.objectives = _objectives()
    config.pretrain.text = _text()
    config.pretrain.mask_rate = 0.2  # masked_item, masked_attribute: share of events masked
    config.pretrain.update(_objective_settings())
    # begin with the encoder of another run, of another log or category perhaps: items, actions and
    # categories of the same name keep their rows, others begin fresh; its seeds must hold these
    config.pretrain.warm_start = ConfigDict({"workdir": "", "arm": "real"})
    config.finetune = ConfigDict()
    config.finetune.tasks = ("next_item", "click")
    config.finetune.next_item = _item_training(num_steps=1000, learning_rate=1e-3)
    config.finetune.next_item.causal = True  # False: one query per sequence, [MASK] at its end
    config.finetune.next_item.in_step = _in_step()
    config.finetune.click = _training(num_steps=500, learning_rate=1e-3)
    config.finetune.next_item.adapt = _adaptation()
    config.finetune.click.adapt = _adaptation()
    config.finetune.click.hidden_dims = (64, 32)  # widths of the click tower
    # "encoder": attention over the encoded history; the others read the embedded one, without the
    # encoder's blocks: "din", "sim" (din over the last events of the shown item's category), "dien"
    # (two recurrences), "bst" (a transformer block over history and shown item)
    config.finetune.click.head = "encoder"
    config.finetune.click.num_heads = 2  # bst
    config.finetune.click.search_len = 20  # sim: events
    config.finetune.click.interest_weight = 1.0  # dien: of the loss on each event's successor
    config.finetune.click.adversarial = _adversarial()
    config.finetune.row_click = _row_click()
    config.finetune.row_outcomes = _row_outcomes()
    config.tune = _tune()
    config.evaluate = _evaluate()
    config.report = ConfigDict({"num_example_users": 5})
    config.recommend = _recommend()
    config.parallel = _parallel()
    config.aot = ConfigDict(
        {  # what `--aot TPU` would otherwise have to read from the data
            "num_items": 100_000,  # size of the catalogue
            "num_categories": 1000,
            "num_corpus_rows": 100_000,  # of prepare.text.max_len tokens, with a text corpus
            "num_rows": 1_000_000,  # of a table: embedding rows of all features together
            "timeout_seconds": 1800,  # of all compiles of one call
        }
    )
    config.checkpoint = ConfigDict(
        {
            "interval_steps": 200,  # a save also happens at the end and on SIGTERM
            "keep_last": 2,  # newest checkpoints kept
            "keep_best": 0,  # above 0: a save at every evaluation, and so many of the best kept too
        }
    )
    config.logging = ConfigDict(
        {
            "interval_steps": 20,
            "tensorboard": True,
            "wandb_project": "",  # Weights & Biases project; needs the extra `wandb`
            "profile_start_step": 10,  # first step of the profiler's trace, counted from 1
            "profile_num_steps": 0,  # steps traced in every training; 0 = none
        }
    )
    return config


def _data() -> ConfigDict:
    data = ConfigDict()
    data.kind = "log"  # behaviour of users; "table": labelled rows, see data.table
    data.source = "file"  # "file", "simulated_shop", "tfds", "ibis"; a table is read from files
    data.path = ""  # events (rows of training): a file, a glob or a folder of Parquet
    data.format = "auto"  # "parquet", "csv", "jsonl", "sequences" (user item item ... per line)
    data.delimiter = "auto"  # csv only
    data.columns = ConfigDict(
        {  # our name: the file's column name ("" = absent)
            "user_id": "user_id",
            "item_id": "item_id",
            "action": "action",
            "timestamp": "timestamp",
            "session_id": "",
            "query": "",
            "rating": "",
            "text": "",
            "position": "",
            "impression_id": "",
            "label": "",
            "propensity": "",
            "price": "",
            "platform": "",
        }
    )
    data.actions = (
        "search", "view", "click", "favourite", "cart", "buy", "rate", "review", "share",
    )  # fmt: skip
    data.action_names = ConfigDict()  # file's action value -> one of `actions`, where they differ
    data.default_action = "view"  # for logs without an action column
    data.time_unit = "auto"  # "seconds", "milliseconds", "microseconds", "text", "order", "auto"
    data.catalogue_path = ""
    data.catalogue_columns = ConfigDict(
        {
            "item_id": "item_id",
            "title": "title",
            "category": "category",  # path, levels split by " > "
            "brand": "brand",
            "price": "price",
            "image_vector": "",
        }
    )
    data.users_path = ""
    data.users_columns = ConfigDict({"user_id": "user_id", "valid_from": ""})
    data.graph_path = ""
    data.graph_columns = ConfigDict({"head": "head", "relation": "relation", "tail": "tail"})
    data.impressions_path = ""  # shown items with label; "" = none, clicks are made from events
    data.tfds_name = ""  # source "tfds": movielens_1m, amazon_reviews, taobao, online_retail, ...
    data.ibis_url = ""  # source "ibis": e.g. duckdb://shop.db, spark, bigquery://project/dataset
    data.ibis_table = ""
    data.table = ConfigDict(
        {  # kind "table": Parquet or CSV, one row a decision with its outcome
            # public set whose original files lie in data.path: "frappe", "census" (UCI Adult),
            # or made of a log: "view_outcomes" (of views, carts and purchases, one row a viewed
            # pair), "cart_outcomes" (one a pair put into the cart), "user_churn" (one a user and
            # moment), "invoice_churn" (the same of UCI Online Retail)
            "dataset": "",
            "valid_path": "",  # "" = cut out of data.path as prepare.split says
            "test_path": "",
            "label": "label",  # column of the outcome
            "yes": "",  # its value that means yes, where it is not 0 or 1
            # further outcomes for finetune.row_outcomes: name -> {"column": "", "yes": ""}; such
            # as need one another stand in their order behind `label` (clicked, bought)
            "also": ConfigDict(),
            "user": "",  # column: intervals are over users; with item, the floor remembers pairs
            "item": "",
            "time": "",  # column that orders the rows, for the split "time"
            "horizon_days": 30,  # within which cart_outcomes bought, or users came back
        }
    )
    data.simulated_shop = ConfigDict(
        {
            "num_users": 2000,
            "num_items": 500,
            "num_days": 60,
            "seed": 7,
            "dirty_share": 0.01,  # rows spoiled on purpose
            "bot_share": 0.01,  # users that are bots
        }
    )
    return data


def _prepare() -> ConfigDict:
    prepare = ConfigDict()
    prepare.backend = "duckdb"  # "spark" runs the same expressions on a Spark session
    prepare.memory_gib = 2.0  # limit of the embedded engine
    prepare.max_quarantine_share = 0.2  # more bad rows than this is fatal (exit 2)
    prepare.cleaning = ConfigDict(
        {
            "drop_duplicates": True,  # same user, item, action, second
            "earliest_time": "1995-01-01",  # clocks before this are impossible
            "latest_time": "",  # "" = now
            "bot_max_events_per_minute": 60,  # a user above it in any minute is a bot; 0 = off
            "bot_max_events_per_day": 2000,  # 0 = off
            "bot_min_gap_regularity": 0.02,  # gaps' coefficient of variation below it; 0 = off
            "bot_min_events": 50,  # the regularity rule needs this many
            "user_core": 2,  # least events per user (k-core, repeated until stable)
            "item_core": 1,
            "session_gap_seconds": 1800,
        }
    )
    prepare.split = ConfigDict(
        {
            # "time", "leave_one_out", "cold_users", "cold_items", "folds"; a table: "time", "rows"
            "method": "time",
            "valid_share": 0.1,  # of the events (time), users or items (cold_*)
            "test_share": 0.1,
            "fold": 0,  # folds: which fold is the test part
            "num_folds": 5,
            "user_share": 1.0,  # random share of the users that is kept at all
            "user_fold": 0,  # which of the disjoint shares of that size, from 0
            "seed": 0,
        }
    )
    prepare.target_actions = ()  # actions that count as a target; () = all that carry an item
    prepare.max_history = 50  # events kept in one evaluation or click example
    prepare.num_gap_bins = 16  # log2 buckets of the seconds since the previous event
    prepare.num_price_bands = 8
    prepare.max_click_examples = 200_000  # click records per part, thinned evenly; 0 = all
    prepare.click_negatives = 4  # sampled negatives per event where the log has no impressions
    prepare.features = ConfigDict()  # of a table: name -> {key of `feature`: its own value}
    prepare.feature = ConfigDict(
        {
            "kind": "category",  # "tags" (several values in one text), "number"
            "column": "",  # of the table; "" = the feature's name
            "table": "",  # features of the same table share embedding rows; "" = its own
            "min_count": 1,  # values that training has less often share the row "unknown"
            "hash_rows": 0,  # above 0: so many rows, found by a hash; no vocabulary
            "num_hashes": 1,  # rows that a hashed value adds up, each by another hash
            "max_values": 8,  # tags: the first so many count
            "separator": ",",  # tags
            "scale": "none",  # number: or "log"
            "num_buckets": 0,  # number: above 0, a row per quantile bucket; else row times number
        }
    )
    prepare.text = ConfigDict(
        {
            "vocab_size": 2000,  # WordPiece trained on catalogue titles
            "tokenizer": "",  # a folder of a Hugging Face tokenizer instead
            "max_len": 16,  # tokens per title
        }
    )
    return prepare


def _features() -> ConfigDict:
    return ConfigDict(
        {
            "encoder": "",  # "" skips the stage; "tfidf" or "bert": item vectors of titles
            "folder": "",  # bert: a Hugging Face BERT with its tokenizer
            "max_len": 32,  # bert: tokens per title, start and end tokens included
            "batch_size": 256,  # bert: titles encoded at once
        }
    )


def _expansion() -> ConfigDict:
    expansion = ConfigDict()
    # arm -> {strategy: share}. An arm's draws fill ratio x (number of training users).
    expansion.arms = ConfigDict({"expanded": ConfigDict({"hmm_users": 0.5, "hmm_continue": 0.5})})
    expansion.ratio = 1.0  # synthetic users per real one
    expansion.use_in = "pretrain"  # "pretrain", "finetune" or "both"
    # Points (share of a training's steps, share of synthetic records in a batch), linear between
    # them: ((0.5, 1.0), (1.0, 0.0)) begins on draws alone and fades them out; () = as many as come
    # when all records are taken equally often.
    expansion.synthetic_share = ()
    # Weight of the generator's distribution of the next item in the targets, 0 to 1; the rest is on
    # the item that came. Where `use_in` says, for real users too, whatever the ratio.
    expansion.soft_targets = 0.0
    # Share of the rows of a batch whose users the generator draws anew in every step, in these
    # trainings: whole users of the HMM, whatever the arm mixes, and unseen by the gate.
    expansion.fresh_share = 0.0
    expansion.overrides = ConfigDict()  # arm -> {one of these five: its own value}
    expansion.short_user_events = 5  # hmm_continue, hmm_prefix, hmm_fill: users of at most so many
    expansion.similarity = ConfigDict(
        {  # which items resemble each other: substitute, insert
            "by": "co_visit",  # "vectors" (needs features), "graph" (needs data.graph_path)
            "num_items": 10,  # most similar ones that can be drawn for an item
            "window": 3,  # co_visit: events up to which two are neighbours
        }
    )
    expansion.edits = ConfigDict(
        {  # how much the strategies that edit real users change
            "crop_share": 0.6,  # crop: events, next to each other, that stay
            "reorder_share": 0.5,  # reorder: events, next to each other, that change places
            "substitute_share": 0.3,  # substitute: events whose item a similar one stands in for
            "insert_share": 0.3,  # insert: new events, as a share of those that were there
            "swap_share": 0.15,  # swap_noise: events whose item is drawn by popularity
            "gap_scale": 0.5,  # gap_noise: standard deviation of the logarithm of a gap's factor
            "action_share": 0.3,  # action_change: events that get another action
            "splice_by": "item",  # splice: what two users share where they meet; "category"
        }
    )
    expansion.hmm = ConfigDict(
        {
            "num_states": 16,
            "num_iterations": 15,  # Baum-Welch
            "tolerance": 1e-4,  # stop when held-out log-likelihood per event gains less
            "kernel_window": 3,  # previous items looked at
            "kernel_neighbours": 50,  # cap per item
            "kernel_backward": 0.5,  # weight of counts in reverse order
            "kernel_damping": 0.5,  # exponent on popularity
            "kernel_share": 0.0,  # of the items, those that the kernel draws; 0 = learned by state
            "smoothing": 0.1,  # pseudo-counts
            "max_duration": 1,  # most events of a stay in a state; 1: no explicit durations
            "items": "auto",  # "plain", "category", "category_price", "content" (needs features);
            # "auto" = "category" where the catalogue has categories, else "plain"
            "start": "random",  # or "kmeans" over users' histories
            "num_restarts": 1,  # fitted together; held-out users choose
            "max_len": 50,
            "batch_size": 512,  # users per E-step batch
            "temperature": 1.0,
            "no_repeats": False,
        }
    )
    expansion.transformer = _neural_generator()
    expansion.sequence_vae = _neural_generator()
    expansion.sequence_vae.latent_dim = 16  # numbers that say what kind of user it is
    expansion.sequence_vae.kl_weight = 0.2  # of the divergence from the prior; 1: the bound itself
    # In training, share of the earlier events that the decoder does not read, so that it turns to
    # the latent vector.
    expansion.sequence_vae.history_drop = 0.3
    expansion.sequence_gan = _neural_generator()  # of config.model only hidden_dim: a GRU each side
    expansion.sequence_gan.adversarial_weight = 0.1  # of the critic's opinion beside the next item
    expansion.sequence_gan.gumbel_temperature = 1.0  # of the softmax that gradients go back through
    expansion.masked_fill = ConfigDict(
        {  # fills hidden and new places of users of at most `short_user_events` events
            "workdir": "",  # work directory of a first run on the same prepared log, pretrained
            # with masked_item; its seeds must hold those of this run
            "arm": "real",  # whose pretraining
            "mask_share": 0.3,  # of a user's events, filled with another item
            "insert_share": 0.3,  # new events, as a share of those that were there
            "temperature": 1.0,  # of the draws; less plays safe
            "top_k": 0,  # only so many likeliest items are drawn; 0: all
        }
    )
    expansion.clicks = ConfigDict(
        {  # click examples of drawn users, for arms whose `use_in` has fine-tuning
            "per_user": 0,  # impressions of a drawn user, each with one taken item; 0 = none
            "negatives": 4,  # items beside it that were not taken
            "negative_kind": "uniform",  # "popularity", "hard" (likely given the history, by the
            # HMM), "session" (in the same session, with an action that `data.actions` lists before)
            "smoothing": 0.0,  # weight of the HMM's odds among the shown items in their labels
        }
    )
    expansion.gate = ConfigDict(
        {
            "drop_exact_duplicates": True,
            "near_duplicate_jaccard": 0.9,  # MinHash similarity above it is a copy; 0 = off
            "merge_similar": False,  # copies of a draw add to its weight instead of being dropped
            "num_hashes": 64,
            "shingle_len": 3,  # events per shingle
            "likelihood_band": (
                0.005,
                0.995,
            ),  # quantiles of held-out real users' log-lik per event
            "discriminator_quantile": 0.0,  # drop draws that a classifier finds less real than
            # this quantile of real users; 0 = off
            "rare_item_share": 0.2,  # rarest items (share of catalogue) ...
            "rare_item_quota": 0.05,  # ... must make up at least this share of synthetic events
            "category_floor": 0.0,  # each category's least part of its real share; 0 = off
            "category_cap": 0.0,  # each category's most times its real share; 0 = off
            "cross_category_quota": 0.0,  # users of several categories, least times as many as real
            "min_len": 2,  # events
            "max_draw_factor": 4.0,  # draws at most this many times what is wanted
        }
    )
    return expansion


def _model() -> ConfigDict:
    return ConfigDict(
        {
            "encoder": "bert",  # "hstu"; "gru" (causal objectives only)
            "num_layers": 2,
            "hidden_dim": 64,
            "num_heads": 2,  # bert, hstu
            "mlp_dim": 256,  # bert
            "max_len": 50,
            "dropout_rate": 0.2,
            "attention_dropout_rate": 0.2,  # bert, hstu
            # What computes bert's attention: "xla", "cudnn" (GPU, bfloat16), "splash" (TPU); those
            # two take neither attention dropout nor relative bias. "auto": them from length 512 on.
            "attention": "auto",
            "norm": "pre",  # or "post"
            "dtype": "float32",  # compute; parameters stay float32
            "scan": False,  # one compiled block run num_layers times: compiles faster
            "remat": "none",  # computed again backward: "dots" (attention, not layers) or "full"
            "inputs": ("item", "action", "position", "gap", "category"),
            # Bias per head from pairs of events, bert and hstu: "position" (events between them),
            # "gap" (time between them, from the gap bins). HSTU as published has both.
            "relative_bias": (),
            "vocab_multiple": 1,  # item table rows, rounded up; fsdp x tensor must divide it
        }
    )


def _training(num_steps: int, learning_rate: float) -> ConfigDict:
    return ConfigDict(
        {
            "num_steps": num_steps,
            "batch_size": 64,  # packed rows (sequences) or examples (click) of an update, in all
            "accumulate_steps": 1,  # parts of a batch, one after another: less memory
            "pack": True,  # several short users in one row
            # of users longer than model.max_len: their "last" events, or a "random" run of them,
            # another one each epoch
            "long_users": "last",
            "optimizer": "adamw",  # "adam", "sgd", "lamb", "adafactor", "lion", "muon"
            "learning_rate": learning_rate,  # the peak
            "warmup_steps": 50,
            "schedule": "cosine",  # "constant", "linear", "rsqrt", "wsd" (warm-up, stable, decay)
            "decay_share": 0.2,  # wsd: last share of the steps, in which the rate falls
            "weight_decay": 0.01,  # decoupled, on kernels; adam and sgd have none
            "l2": 0.0,  # factor of half the squared norm of kernels in the loss
            "clip_norm": 1.0,  # largest norm of the gradient; 0 = off
            "beta2": 0.98,  # decay of second moments; of momentum in lion
            "table_optimizer": "same",  # embedding tables: "adagrad_rows" (one number per row),
            # "adam_rows" (idle rows untouched), or any name above
            "table_learning_rate": 0.0,  # the peak for tables; 0 = learning_rate
            "table_l2": 0.0,  # as l2, of table rows that have a gradient in the batch
            "layer_decay": 1.0,  # learning rate of a layer over that of the layer above
            # "pcgrad": where gradients of a training's losses work against each other, each loses
            # that part; a backward pass for each loss
            "gradient_surgery": "none",
            "ema_decay": 0.0,  # moving average of parameters, judged and kept instead; 0 = off
            "freeze": (),  # regular expressions of parameter paths that do not move
            "eval_interval_steps": 200,
            "early_stop_evals": 5,  # evaluations without gain before a member stops; 0 = never
        }
    )


def _row_outcomes() -> ConfigDict:
    """The training of heads that judge several outcomes of a row at once."""
    training = _training(num_steps=500, learning_rate=1e-3)
    # "shared_bottom", "mmoe", "ple"; of outcomes that need one another also "esmm", "aitm"
    training.heads = ("shared_bottom", "mmoe", "ple")
    training.singles = True  # also trains each outcome alone, the arm "single"
    training.overrides = ConfigDict()  # as in row_click
    training.weights = ()  # of the outcomes' losses; () = 1 each
    training.balance = "fixed"  # "uncertainty": weights are learned over these
    training.order_weight = 0.6  # aitm: of the loss on an outcome likelier than the one before it
    training.model = ConfigDict(
        {  # see recjax.models.ctr.CtrConfig
            "embedding_dim": 10,
            "hidden_dims": (128, 64),  # of the shared bottom; of an expert
            "tower_dims": (32,),  # of an outcome
            "num_experts": 4,  # mmoe; ple, of each outcome and shared
            "num_levels": 1,  # ple
            "norm": "none",
            "dropout_rate": 0.0,
            "dtype": "float32",
            "vocab_multiple": 1,
        }
    )
    return training


def _row_click() -> ConfigDict:
    """The training of click-through heads on labelled rows."""
    training = _training(num_steps=500, learning_rate=1e-3)
    # "lr", "fm", "dnn", "wide_deep", "deepfm", "dcn", "dcnv2", "xdeepfm", "autoint", "finalmlp",
    # "finalnet", "eulernet", "masknet", "gdcn"
    training.heads = ("dnn", "deepfm", "dcnv2")
    training.overrides = ConfigDict()  # head -> {key of this section or of `model`: its own value}
    training.adversarial = _adversarial()
    training.model = ConfigDict(
        {  # a head reads those of its paper; see recjax.models.ctr.CtrConfig
            "embedding_dim": 10,  # of a feature
            "hidden_dims": (400, 400, 400),  # of the deep part, or of each stream
            "norm": "none",  # in the deep part: "layer" or "batch"
            "dropout_rate": 0.0,  # in the deep part
            "num_cross_layers": 3,  # dcn, dcnv2, gdcn, autoint, eulernet; blocks of masknet
            "cross_dims": (64, 64),  # xdeepfm
            "num_heads": 2,  # autoint, finalmlp
            "attention_dim": 32,  # autoint, per head
            "num_orders": 16,  # eulernet, per layer
            "mask_factor": 2.0,  # masknet, finalmlp: width of what makes a mask or a gate
            "block_dim": 64,  # masknet
            "dtype": "float32",  # compute; parameters stay float32
            "vocab_multiple": 1,  # table rows, rounded up; fsdp x tensor must divide it
        }
    )
    return training


def _adversarial() -> ConfigDict:
    return ConfigDict(
        {  # also trains on embedded inputs (field vectors, history) shifted to a higher loss
            "method": "none",  # "fgm" (one step of the gradient) or "pgd"
            "size": 0.1,  # of the shift, as a share of the norm of a row's embedded input
            "steps": 3,  # pgd; each costs as much as a step of training
            "weight": 1.0,  # of the loss there
        }
    )


def _in_step() -> ConfigDict:
    in_step = ConfigDict()  # what is done to embedded events in the step, each off by default
    in_step.noise_size = 0.0  # normal noise, as a share of the root mean square of an event
    in_step.mixup_alpha = 0.0  # pairs of histories and their targets mixed by Beta(alpha, alpha)
    in_step.adversarial = _adversarial()
    in_step.virtual = ConfigDict(
        {  # also keeps the answer where shifted events change it most, label or not
            "weight": 0.0,  # of that divergence; 0 = off
            "size": 0.1,  # of the shift, as in `adversarial`
            "items": 64,  # drawn per row, among which and the row's targets answers are compared
        }
    )
    return in_step


def _item_training(num_steps: int, learning_rate: float) -> ConfigDict:
    """A training that predicts items: also the loss over the catalogue."""
    training = _training(num_steps, learning_rate)
    training.loss = "full"  # softmax over all items; "sampled" (softmax) or "gbce": over draws
    training.loss_chunk = (
        1024  # full: items per tile, an eighth as many tokens; more on accelerators
    )
    training.num_negatives = 256  # sampled, gbce: items drawn per row of the batch
    training.negative_proposal = "uniform"  # or "log_uniform", by popularity rank
    training.gbce_calibration = 0.75  # gbce: t, 0 = plain binary, 1 = corrects for the sampling
    return training


def _neural_generator() -> ConfigDict:
    """The training of a strategy that draws item by item, with config.model, and its draws."""
    training = _item_training(num_steps=1000, learning_rate=1e-3)
    training.temperature = 1.0  # of its draws; less plays safe
    training.top_k = 0  # only so many likeliest items are drawn; 0: all
    return training


def _adaptation() -> ConfigDict:
    return ConfigDict(
        {  # with a method few new parameters and the head learn, the encoder stays as pretrained
            "method": "none",  # "lora", "adapter", "prefix"
            "rank": 8,  # lora: of the pair A B that is added to a kernel ...
            "alpha": 16.0,  # ... times alpha / rank
            # lora: paths of the kernels
            "targets": (".*/(query_key_value|gate_value_query_key|output)/kernel",),
            "dim": 16,  # adapter: width of the bottleneck behind each part of a block
            "length": 8,  # prefix: learned positions per layer
        }
    )


def _objectives() -> ConfigDict:
    return ConfigDict(
        {  # weights in the pretraining loss, 0 = off; exactly one of the first two must be on
            "masked_item": 1.0,  # hidden events from both sides (BERT4Rec)
            "next_item": 0.0,  # the next event from those before it (SASRec): causal reading
            "replaced_item": 0.0,  # which items were swapped for drawn ones (ELECTRA)
            "sequence_contrast": 0.0,  # two changed copies of a sequence know each other (CL4SRec)
            "masked_attribute": 0.0,  # categories of hidden events (S3-Rec)
            "item_attribute": 0.0,  # the category of each item from its own vector (S3-Rec)
            "masked_segment": 0.0,  # which span was cut out of this sequence (S3-Rec)
            "next_session": 0.0,  # is the second half the own one or another user's
            # These read titles, with one text encoder of their own (config.pretrain.text):
            "masked_text": 0.0,  # hidden words of titles and of a corpus (BERT)
            "joint_item_text": 0.0,  # an item from its title, words of a title beside its item
            "text_alignment": 0.0,  # history against the next item's title (CLIP)
        }
    )


def _text() -> ConfigDict:
    return ConfigDict(
        {  # the text encoder, a BERT; model.dtype, scan and remat are its own too
            "num_layers": 2,
            "hidden_dim": 64,
            "num_heads": 2,
            "mlp_dim": 256,
            "dropout_rate": 0.1,
            "attention_dropout_rate": 0.1,
            "texts_per_row": 4,  # titles that an objective reads per row of a batch
            "mask_rate": 0.15,  # share of the words hidden, whole words
            "alignment_dim": 64,  # width of the space that history and titles share
            "corpus": "",  # masked_text: a text file, one document a line, read beside titles
            "reviews": False,  # masked_text: the log's text column is read beside titles
        }
    )


def _objective_settings() -> dict[str, ConfigDict]:
    return {
        "replaced_item": ConfigDict(
            {
                "replaced_share": 0.15,  # of the events
                "proposal": "uniform",  # or "log_uniform", by popularity rank
            }
        ),
        "sequence_contrast": ConfigDict(
            {
                "augmentations": ("crop", "mask", "reorder"),  # each sequence gets two, drawn
                "crop_share": 0.6,  # of the events, that stay
                "mask_share": 0.3,  # of the events, that are hidden
                "reorder_share": 0.6,  # of the events, that change places
                "temperature": 0.1,
                "sequences_per_row": 8,  # most that take part; cost grows with the square
            }
        ),
        "masked_segment": ConfigDict(
            {
                "span_len": 3,  # events; sequences with more of them take part
                "temperature": 0.1,
                "sequences_per_row": 8,  # most that take part; cost grows with the square
            }
        ),
        "next_session": ConfigDict({"foreign_share": 0.5}),  # of the sequences
    }


def _tune() -> ConfigDict:
    return ConfigDict(
        {
            "num_trials": 20,  # settings tried, for every arm alike
            "num_seeds": 1,  # members of a trial, trained together; at most config.num_seeds
            "arms": (),  # () = real and all of expansion.arms
            "task": "next_item",  # the fine-tuning whose validation metric chooses
            "num_rungs": 2,  # times that a trial competes before its end; 0 = all run to the end
            "reduction_factor": 3,  # one of so many goes on at a rung; rungs at 1/3, 1/9 ... steps
            "space": (  # (key, "float", "log" or "int", low, high) or (key, "choice", values)
                ("pretrain.learning_rate", "log", 3e-4, 1e-2),
                ("pretrain.weight_decay", "choice", (0.0, 0.01, 0.1)),
                ("finetune.next_item.learning_rate", "log", 3e-4, 1e-2),
                ("model.dropout_rate", "float", 0.0, 0.5),
                ("model.num_layers", "int", 1, 3),
            ),
        }
    )


def _evaluate() -> ConfigDict:
    return ConfigDict(
        {
            "batch_size": 256,
            "cutoffs": (5, 10, 20),
            "mask_history": True,
            "item_chunk": 16384,  # catalogue items scored at once
            "max_valid_users": 5000,  # validation during training looks at this many; 0 = all
            "floors": ("counting", "popularity", "item_knn"),
            "counting": ConfigDict(
                {  # grid tuned on validation by NDCG@10, see DESIGN
                    "windows": (1, 3, 5),
                    "backward": (0.0, 0.5, 1.0),
                    "item_exponents": (0.3, 0.5),
                    "decays": (0.5, 0.8),
                    "history": 10,
                }
            ),
            # Weights of the generator's log-score tried on validation, for the arms "fused" (real
            # only) and ARM_fused, wherever a generator was fitted, e.g. (0.0, 0.1, 0.2, 0.5, 1.0,
            # 2.0); () = no such arms. Scores of a batch against all items stand in the host's
            # memory.
            "fusion_weights": (),
            "part": "test",  # "valid" judges the validation users instead; the test stays closed
            # Clicks: probabilities fitted on validation, "temperature" or "isotonic"; AUC stays (of
            # "isotonic" nearly).
            "calibration": "none",
            # Heads on a table: also judge the mean of the members' probabilities, as HEAD_ensemble.
            "ensembles": False,
            "bootstrap_samples": 2000,
            "min_slice_targets": 500,  # smaller slices say "too few"
            "data_curve_shares": (0.25, 0.5, 1.0),
        }
    )


def _recommend() -> ConfigDict:
    return ConfigDict(
        {
            "top_n": 10,
            "arm": "",  # "" = the arm that won on validation
            "users_path": "",  # one user_id per line; "" = every user
            "candidates_path": "",  # user_id,item_id rows to score instead of the whole catalogue
        }
    )


def _parallel() -> ConfigDict:
    return ConfigDict(
        {
            "engine": "jit",  # or "pmap" (data axis only)
            # Devices per axis, -1: all that the others leave. data: rows of a batch; fsdp: rows,
            # parameters and moments; tensor: wide layers; the item table over fsdp x tensor.
            "mesh": ConfigDict({"data": -1, "fsdp": 1, "tensor": 1}),
            "prefetch_batches": 2,
        }
    )
