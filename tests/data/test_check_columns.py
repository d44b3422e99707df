import pytest

from recjax.data.check_columns import guess_action, guess_columns
from recjax.data.sources import SourceFile


def guess(columns: dict[str, list]) -> dict[str, str]:
    kinds = {name: "int64" if isinstance(v[0], int) else "string" for name, v in columns.items()}
    file = SourceFile("log", "csv", tuple(columns), kinds)
    found = guess_columns(file, columns, max(map(len, columns.values())))
    return {ours: found_guess.column for ours, found_guess in found.items()}


CLOCK = [1_700_000_000, 1_700_000_001, 1_700_000_900]


def test_name_that_lies_about_its_content_is_not_believed() -> None:
    found = guess(
        {"user": ["a", "b", "c"], "item": ["x", "y", "x"], "time": ["s", "m", "l"], "at": CLOCK}
    )
    assert found["timestamp"] == "at"


def test_session_stands_for_the_user_where_there_is_none() -> None:
    assert guess({"session": [1, 2, 3], "item": [4, 5, 4], "ts": CLOCK})["user_id"] == "session"
    found = guess({"session": [1, 2, 3], "user": [7, 8, 9], "item": [4, 5, 4], "ts": CLOCK})
    assert (found["user_id"], found["session_id"]) == ("user", "session")


def test_actions_are_known_by_their_values() -> None:
    found = guess(
        {"a": ["u", "v", "w"], "b": ["x", "y", "x"], "c": ["pv", "buy", "fav"], "d": CLOCK}
    )
    assert found == {"user_id": "a", "item_id": "b", "action": "c", "timestamp": "d"}
    found = guess({"a": ["u", "v", "w"], "b": ["x", "y", "x"], "cost": ["free", "paid", "free"]})
    assert "action" not in found


def test_flags_prices_and_fractions_are_no_ids_and_no_ratings() -> None:
    found = guess(
        {"new": [0, 1, 0], "cost": ["1.99", "2.5", "9"], "who": [11, 12, 13], "what": [5, 6, 7]}
    )
    assert "rating" not in found and found["item_id"] != "cost"


@pytest.mark.parametrize(
    ("value", "action"),
    [
        ("Add-To-Cart", "cart"),
        ("transaction", "buy"),
        ("4", None),
        ("", None),
        ("Like", "favourite"),
    ],
)
def test_words_for_actions(value, action) -> None:
    assert guess_action(value) == action
