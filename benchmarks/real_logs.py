"""Readers of the public logs that `hmm_perplexity.py` measures on; no file of them is shipped.

Every reader returns a `Log`: sequences with the place of the first event to score in validation and
test, over items numbered 0..V - 1, and what is known of the items.
"""

import dataclasses
import gzip
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import scipy.sparse as sp
from scipy.sparse.linalg import svds

from recjax import hmm

GAP_EDGES = (60, 600, 3600, 86400, 259200)  # seconds: minute, ten minutes, hour, day, three days
NUM_FEATURES = 24
MAX_USERS = 8_000  # taken of a log, but for the leave-one-out one
MAX_VALIDATION = 5_000  # users whose last but one event chooses the settings

Grids = tuple[np.ndarray, np.ndarray, np.ndarray]  # items, actions, gap bins of one sequence


@dataclasses.dataclass(frozen=True)
class Log:
    """One log, split.

    Attributes:
        name: folder of the data set.
        split: how it was split, in words.
        train: sequences learned from.
        validation: sequences and the place from which on events are scored.
        test: the same, opened once.
        sizes: V, A and G.
        cells: int32 [V], category (x price band) of each item, or None.
        features: float32 [V, F], standardised.
        feature_source: what the features were made of.
        leave_one_out: whether the validation and test target is one last event, history known.
    """

    name: str
    split: str
    train: list[Grids]
    validation: list[tuple[Grids, int]]
    test: list[tuple[Grids, int]]
    sizes: hmm.HmmSizes
    cells: np.ndarray | None
    features: np.ndarray
    feature_source: str
    leave_one_out: bool = False


def read_log(name: str, data: Path, max_users: int) -> Log:
    """Reads one of `READERS`; at most `max_users` users or sessions."""
    return READERS[name](data / name, max_users)


def _beauty(folder: Path, max_users: int) -> Log:
    with gzip.open(folder / "Beauty.txt.gz", "rt") as lines:
        users = [np.array(line.split()[1:], np.int64) - 1 for line in lines]
    order = np.random.default_rng(0).permutation(len(users))
    if max_users < MAX_USERS:  # a quick look; the published split has all users
        users = [users[user] for user in order[:max_users]]
    asked = order[order < len(users)][:MAX_VALIDATION]
    table = pq.read_table(folder / "items.parquet").to_pydict()
    words: list[list[str]] = [[] for _ in range(12_101)]
    leaf, price = np.zeros(12_101, np.int64), np.full(12_101, np.nan)
    leaves: dict[str, int] = {}
    columns = (table[c] for c in ("item_id", "title", "brand", "categories", "price"))
    for item, title, brand, path, cost in zip(*columns, strict=True):
        if item is None:
            continue
        words[item - 1] = [*(title or "").lower().split(), f"brand={brand}", *_parts(path)]
        leaf[item - 1] = leaves.setdefault(path or "", len(leaves))
        price[item - 1] = np.nan if cost is None else cost
    plain = [(items, 0 * items, 0 * items) for items in users]
    return Log(
        name="amazon_beauty",
        split=f"leave one out, {len(users)} users, {len(asked)} of them for validation",
        train=[_part(grids, None, -2) for grids in plain],
        validation=[(_part(plain[user], None, -1), len(plain[user][0]) - 2) for user in asked],
        test=[(grids, len(grids[0]) - 1) for grids in plain],
        sizes=hmm.HmmSizes(12_101),
        cells=hmm.item_cells(leaf, hmm.price_bands(price, leaf, 3)),
        features=_tfidf_features(words),
        feature_source="TF-IDF of title, brand and category path, SVD",
        leave_one_out=True,
    )


def _multi_behaviour(folder: Path, max_users: int, actions: Sequence[str]) -> Log:
    table = pq.read_table(folder / "events.parquet").to_pydict()
    code = {name: index for index, name in enumerate(actions)}
    kind = np.array([code[name] for name in table["behavior"]])
    user, time = np.array(table["user_id"]), np.array(table["timestamp"])
    users = np.unique(user)
    rng = np.random.default_rng(0)
    chosen = np.sort(rng.permutation(users)[:max_users])
    order = np.lexsort((kind, time, user))
    order = order[np.isin(user[order], chosen)]
    grids, number = _grids(user[order], np.array(table["item_id"])[order], kind[order], time[order])
    return _split_users(folder.name, grids, rng.permutation(len(grids)), number, len(actions))


def _split_users(
    name: str, grids: list[Grids], order: np.ndarray, number: np.ndarray, num_actions: int
) -> Log:
    """Tenths of the users for validation and test; features from the graph or the training log."""
    parts = np.split(order, [8 * len(order) // 10, 9 * len(order) // 10])
    train, validation, test = ([grids[place] for place in part] for part in parts)
    return Log(
        name=name,
        split=f"users 80/10/10 of {len(grids)}",
        train=train,
        validation=[(one, 0) for one in validation],
        test=[(one, 0) for one in test],
        sizes=hmm.HmmSizes(len(number), num_actions, len(GAP_EDGES) + 1),
        cells=None,
        features=_co_occurrence_features(train, len(number)),
        feature_source="co-occurrence of the training part, SVD",
    )


def _retailrocket(folder: Path, max_users: int) -> Log:
    return _multi_behaviour(folder, max_users, ("view", "cart", "buy"))


def _taobao(folder: Path, max_users: int) -> Log:
    return _multi_behaviour(folder, max_users, ("pv", "fav", "cart", "buy"))


def _rees46(folder: Path, max_users: int) -> Log:
    table = {name: np.asarray(col) for name, col in _columns(folder / "events.parquet").items()}
    now = table["is_history"] == 0
    table = {name: column[now] for name, column in table.items()}
    order = np.lexsort((table["timestamp"], table["user_session"], table["session_start_ts"]))
    session = table["user_session"][order]
    begins = np.append(True, session[1:] != session[:-1])
    rank = np.cumsum(begins) - 1
    order = order[rank < max_users]
    items = table["item_id"][order]
    grids, number = _grids(rank[rank < max_users], items, 0 * items, table["timestamp"][order])
    first = np.unique(items, return_index=True)[1]
    category = table["category_id"][order][first]
    price = table["price_log_norm"][order][first].astype(np.float64)
    brand = table["brand_id"][order][first]
    words = [[f"c={c}", f"b={b}"] for c, b in zip(category, brand, strict=True)]
    log = _split_users("rees46_sessions", grids, np.arange(len(grids)), number, 1)
    known = np.nan_to_num((price - np.nanmean(price)) / np.nanstd(price))[:, None]
    return dataclasses.replace(
        log,
        split=f"sessions by time 80/10/10, first {len(grids)}",
        cells=hmm.item_cells(category, hmm.price_bands(price, category, 4)),
        features=np.concatenate([_tfidf_features(words), known], axis=1).astype(np.float32),
        feature_source="one-hot category and brand, SVD; price",
    )


def _yoochoose(folder: Path, max_users: int) -> Log:
    train = pq.read_table(folder / "train_sessions.parquet")["items"].to_pylist()
    test = pq.read_table(folder / "test_sessions.parquet")["items"].to_pylist()
    tenth = max_users // 10
    sessions = train[-9 * tenth :] + test[:tenth]
    user = np.repeat(np.arange(len(sessions)), [len(session) for session in sessions])
    items = np.concatenate([np.array(session) for session in sessions])
    grids, number = _grids(user, items, 0 * items, None)
    log = _split_users("yoochoose1_64", grids, np.arange(len(grids)), number, 1)
    return dataclasses.replace(
        log,
        sizes=hmm.HmmSizes(len(number)),
        split=f"last {8 * tenth} + {tenth} training sessions, first {tenth} test sessions",
    )


READERS: dict[str, Callable[[Path, int], Log]] = {
    "amazon_beauty": _beauty,
    "rees46_sessions": _rees46,
    "retailrocket_mb": _retailrocket,
    "taobao_mb": _taobao,
    "yoochoose1_64": _yoochoose,
}


def _columns(path: Path) -> dict:
    table = pq.read_table(path)
    return {name: table[name] for name in table.schema.names}


def _parts(path: str | None) -> list[str]:
    return [f"category={part.strip()}" for part in (path or "").split("',")]


def _part(grids: Grids, first: int | None, last: int) -> Grids:
    items, actions, gaps = (grid[first:last] for grid in grids)
    return items, actions, gaps


def _grids(
    user: np.ndarray, items: np.ndarray, actions: np.ndarray, time: np.ndarray | None
) -> tuple[list[Grids], np.ndarray]:
    """Sequences of ordered events, items renumbered, and the old number of every item."""
    number, items = np.unique(items, return_inverse=True)
    gaps = np.zeros_like(items)
    if time is not None:
        gaps[1:] = np.searchsorted(GAP_EDGES, np.diff(time), side="right")
    cuts = np.flatnonzero(np.diff(user)) + 1
    gaps[cuts] = 0
    gaps[:1] = 0
    columns = (np.split(column, cuts) for column in (items, actions, gaps))
    return list(zip(*columns, strict=True)), number


def _tfidf_features(words: list[list[str]]) -> np.ndarray:
    """[V, F] left singular vectors of the TF-IDF table, standardised."""
    code: dict[str, int] = {}
    places = [[code.setdefault(word, len(code)) for word in row] for row in words]
    rows = np.repeat(np.arange(len(words)), [len(row) for row in places])
    columns = np.concatenate([np.array(row, int) for row in places])
    table = sp.csr_array((np.ones(len(rows)), (rows, columns)), shape=(len(words), len(code)))
    rarity = np.log(len(words) / np.maximum((table > 0).sum(0), 1))
    return _factors(table @ sp.diags_array(rarity), NUM_FEATURES)


def _co_occurrence_features(train: list[Grids], num_items: int) -> np.ndarray:
    """[V, F] left singular vectors of damped user co-occurrence in the training part."""
    user = np.repeat(np.arange(len(train)), [len(grids[0]) for grids in train])
    items = np.concatenate([grids[0] for grids in train])
    touched = sp.csr_array((np.ones(len(user)), (user, items)), shape=(len(train), num_items))
    touched.data[:] = 1.0
    popularity = np.maximum(touched.sum(0), 1.0)
    return _factors(touched.T @ sp.diags_array(touched.sum(1) ** -0.5), NUM_FEATURES, popularity)


def _factors(
    table: sp.csr_array, num_features: int, popularity: np.ndarray | None = None
) -> np.ndarray:
    norm = np.sqrt(table.multiply(table).sum(1)) if popularity is None else np.sqrt(popularity)
    table = sp.diags_array(1.0 / np.maximum(norm, 1e-9)) @ table
    left, sizes, _ = svds(sp.csr_array(table), num_features, v0=np.ones(min(table.shape)))
    features = left * sizes
    spread = features.std(0)
    return ((features - features.mean(0)) / np.maximum(spread, 1e-9)).astype(np.float32)
