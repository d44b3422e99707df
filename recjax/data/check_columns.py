"""Guesses what the columns of a stranger's log mean: by name, then by what stands in them.

Called by check.py. A guess says how it came about, so that a person can judge it.
"""

import dataclasses
import re
from collections.abc import Mapping, Sequence
from typing import Any

from recjax.data.sources import SourceFile
from recjax.data.times import guess_time_format

# Our column -> names seen in shops and public data sets, best first, without case and punctuation.
NAMES: dict[str, tuple[str, ...]] = {
    "user_id": (
        "userid", "user", "uid", "customerid", "customer", "visitorid", "visitor", "memberid",
        "clientid", "accountid", "shopperid", "personid", "reviewerid", "useridx", "cookieid",
        "sessionid", "session", "sessid", "usersession",
    ),
    "item_id": (
        "itemid", "item", "iid", "productid", "product", "sku", "skuid", "asin", "parentasin",
        "movieid", "articleid", "stockcode", "goodsid", "contentid", "songid", "trackid", "videoid",
        "newsid", "productuid", "docid", "isbn", "businessid", "appid", "adid",
    ),
    "action": (
        "action", "behavior", "behaviour", "event", "eventtype", "actiontype", "behaviortype",
        "behaviourtype", "eventname", "interaction", "activity", "type",
    ),
    "timestamp": (
        "timestamp", "time", "ts", "datetime", "eventtime", "unixtimestamp", "unixreviewtime",
        "unixtime", "eventtimestamp", "servertime", "createdat", "invoicedate", "orderdate", "date",
        "reviewtime", "visitdatetime", "day",
    ),
    "session_id": ("sessionid", "session", "sessid", "usersession", "visitid"),
    "query": ("query", "searchquery", "searchterm", "keyword", "keywords", "q"),
    "rating": ("rating", "stars", "overall", "score", "ratingvalue"),
    "text": ("reviewtext", "reviewbody", "text", "comment", "content"),
    "position": ("position", "rank", "slot"),
    "impression_id": ("impressionid", "impression", "requestid"),
    "label": ("label", "clicked", "isclick", "click"),
    "propensity": ("propensity", "propensityscore", "pscore"),
    "price": ("price", "unitprice", "saleprice", "amount"),
    "platform": ("platform", "device", "devicetype", "channel", "os"),
}  # fmt: skip
ACTION_NAMES: dict[str, tuple[str, ...]] = {
    "search": ("search", "query"),
    "view": ("view", "pv", "pageview", "productview", "detail", "viewitem", "impression", "visit"),
    "click": ("click", "clk", "clicks", "tap"),
    "favourite": ("favourite", "favorite", "fav", "like", "wishlist", "collect", "bookmark"),
    "cart": ("cart", "addtocart", "addcart", "basket", "atc", "addtobasket", "add"),
    "buy": ("buy", "purchase", "transaction", "order", "paid", "checkout", "sale", "bought"),
    "rate": ("rate", "rating", "rated"),
    "review": ("review", "comment"),
    "share": ("share", "forward", "repost"),
}  # fmt: skip
_MOST_ACTIONS = 30


@dataclasses.dataclass(frozen=True)
class Guess:
    """A column for one of our names; `why` is "name" or "content"."""

    column: str
    why: str


def guess_columns(
    file: SourceFile, values: Mapping[str, Sequence[Any]], num_rows: int
) -> dict[str, Guess]:
    """Returns {our name: guess} for what was found; user_id, item_id may be missing.

    Args:
        file: the described file.
        values: the first values of every column, without nulls.
        num_rows: how many rows they come from.
    """
    guesses: dict[str, Guess] = {}
    for ours, names in NAMES.items():
        column = _by_name(file, names, {guess.column for guess in guesses.values()})
        if column and _fits(ours, values[column], file.types[column]):
            guesses[ours] = Guess(column, "name")
    for ours in ("timestamp", "action", "user_id", "item_id", "rating"):
        if ours not in guesses:
            used = {guess.column for guess in guesses.values()}
            free = [column for column in file.columns if column not in used]
            column = _by_content(ours, free, values, file, num_rows)
            if column:
                guesses[ours] = Guess(column, "content")
    return guesses


def guess_action(value: str) -> str | None:
    """Returns our action for a shop's word for it, or None.

    Example:
        >>> guess_action("add_to_cart"), guess_action("PV"), guess_action("sniff")
        ('cart', 'view', None)
    """
    plain = _plain(value)
    return next((ours for ours, names in ACTION_NAMES.items() if plain in names), None)


def looks_headerless(names: Sequence[str]) -> bool:
    """Returns whether the first line of a CSV file is data: a number or an empty field is in it.

    Example:
        >>> looks_headerless(["196", "242", "3"]), looks_headerless(["user", "item"])
        (True, False)
    """
    return any(not name or re.fullmatch(r"[-+]?\d+(\.\d+)?", name) is not None for name in names)


def _by_name(file: SourceFile, names: Sequence[str], used: set[str]) -> str | None:
    plain = {_plain(column): column for column in reversed(file.columns) if column not in used}
    return next((plain[name] for name in names if name in plain), None)


def _plain(name: str) -> str:
    """Without case, punctuation and a RecBole type such as ":token"."""
    return re.sub(r"[^a-z0-9]", "", str(name).lower().partition(":")[0])


def _fits(ours: str, values: Sequence[Any], kind: str) -> bool:
    """Whether the values can be what the column's name says."""
    if not values:
        return ours in ("query", "text", "rating", "price", "session_id")
    if ours == "timestamp":
        return guess_time_format(values, kind) is not None
    if ours in ("rating", "price", "propensity", "position"):
        return _share(_is_number(value) for value in values) > 0.5
    if ours == "label":
        return {str(value).lower() for value in values} <= {"0", "1", "0.0", "1.0", "true", "false"}
    return ours != "action" or len(set(map(str, values))) <= _MOST_ACTIONS


def _by_content(
    ours: str,
    free: Sequence[str],
    values: Mapping[str, Sequence[Any]],
    file: SourceFile,
    num_rows: int,
) -> str | None:
    if ours == "timestamp":
        return next((c for c in free if _is_clock(values[c], file.types[c])), None)
    if ours == "action":
        return next((c for c in free if _is_action(values[c])), None)
    if ours == "rating":
        return next((c for c in free if _is_rating(values[c])), None)
    # Ids: full columns with several values; the user stands first in nearly every log.
    ids = [c for c in free if len(values[c]) > 0.9 * num_rows and len(set(map(str, values[c]))) > 1]
    ids = [c for c in ids if not _is_fraction(values[c]) and not _is_flag(values[c])]
    return ids[0] if ids else None


def _is_clock(values: Sequence[Any], kind: str) -> bool:
    how = guess_time_format(values, kind) if values else None
    return how is not None and how.unit != "order"


def _is_action(values: Sequence[Any]) -> bool:
    distinct = set(map(str, values))
    known = [value for value in distinct if guess_action(value)]
    return 0 < len(distinct) <= _MOST_ACTIONS and 2 * len(known) > len(distinct)


def _is_rating(values: Sequence[Any]) -> bool:
    """Few different whole or half numbers up to 10, as stars are; 0 and 1 alone are a flag."""
    distinct = set(map(str, values))
    if not 3 <= len(distinct) <= 20 or not all(_is_number(value) for value in distinct):
        return False
    return all(0 <= float(value) <= 10 and float(value) % 0.5 == 0 for value in distinct)


def _is_flag(values: Sequence[Any]) -> bool:
    return {str(value).lower() for value in values} <= {"0", "1", "true", "false", "y", "n"}


def _is_fraction(values: Sequence[Any]) -> bool:
    return any(_is_number(value) and float(value) % 1 for value in values[:1000])


def _is_number(value: Any) -> bool:
    try:
        float(value)
    except (TypeError, ValueError):
        return False
    return True


def _share(truths: Any) -> float:
    listed = list(truths)
    return sum(listed) / max(len(listed), 1)
