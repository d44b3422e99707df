"""The HMM engine: a factored hidden Markov model of shoppers, as pure functions on pytrees.

Learning, inference and draws; it knows nothing of files, configs or flax and can be used alone
(`from recjax import hmm`). Axes: B rows (users), T time (events), K states, V items, A actions,
G gap bins, C categories, S segments of users, N neighbours and W window of the kernel.
"""

from recjax.hmm.bound import draw_bound, sample_bound
from recjax.hmm.cards import describe_states
from recjax.hmm.cells import item_cells, price_bands
from recjax.hmm.conditional import draw_fills, draw_prefixes, sample_fills, sample_prefixes
from recjax.hmm.content import ContentItems, popularity_offset
from recjax.hmm.emissions import CategoryItems, PlainItems
from recjax.hmm.events import Events, Layout, lay_out, pack_events
from recjax.hmm.inference import (
    filter,  # noqa: A004 (its name everywhere)
    log_likelihood,
    sample_states,
    smoother,
    viterbi,
)
from recjax.hmm.kernel import Kernel, build_kernel
from recjax.hmm.learning import fit_baum_welch, fit_counts
from recjax.hmm.lookahead import expected_next_rows
from recjax.hmm.parameters import (
    HmmParams,
    HmmSettings,
    HmmSizes,
    from_arrays,
    initial_params,
    to_arrays,
)
from recjax.hmm.passes import log_likelihood_per_event
from recjax.hmm.prediction import item_log_likelihood, next_item_distribution, next_item_scores
from recjax.hmm.restarts import Member, fit_restarts
from recjax.hmm.sampling import draw_continuations, draw_users, sample_continuations, sample_users
from recjax.hmm.sharding import place_tables, row_placer, spread_rows, table_shardings
from recjax.hmm.start import kmeans_params
from recjax.hmm.stepwise import fit_stepwise
from recjax.hmm.tables import SamplingTables, make_tables
from recjax.hmm.validation import validate_events, validate_params

__all__ = [
    "CategoryItems",
    "ContentItems",
    "Events",
    "HmmParams",
    "HmmSettings",
    "HmmSizes",
    "Kernel",
    "Layout",
    "Member",
    "PlainItems",
    "SamplingTables",
    "build_kernel",
    "describe_states",
    "draw_bound",
    "draw_continuations",
    "draw_fills",
    "draw_prefixes",
    "draw_users",
    "expected_next_rows",
    "filter",
    "fit_baum_welch",
    "fit_counts",
    "fit_restarts",
    "fit_stepwise",
    "from_arrays",
    "initial_params",
    "item_cells",
    "item_log_likelihood",
    "kmeans_params",
    "lay_out",
    "log_likelihood",
    "log_likelihood_per_event",
    "make_tables",
    "next_item_distribution",
    "next_item_scores",
    "pack_events",
    "place_tables",
    "popularity_offset",
    "price_bands",
    "row_placer",
    "sample_bound",
    "sample_continuations",
    "sample_fills",
    "sample_prefixes",
    "sample_states",
    "sample_users",
    "smoother",
    "spread_rows",
    "table_shardings",
    "to_arrays",
    "validate_events",
    "validate_params",
    "viterbi",
]
