"""The vocabulary: order, encoding, files."""

import numpy as np
import pyarrow as pa
import pytest

from recjax.data.vocabulary import MASK, NUM_SPECIALS, PAD, UNK, Vocabulary
from recjax.errors import UserError


def make_vocabulary() -> Vocabulary:
    return Vocabulary.build({"b": 3, "a": 3, "c": 9}, ["d", "a", "A"])


def test_build_orders_by_count_then_id():
    vocabulary = make_vocabulary()
    assert vocabulary.item_ids.to_pylist() == ["c", "a", "b", "A", "d"]
    assert vocabulary.train_counts.tolist() == [9, 3, 3, 0, 0]
    assert (PAD, UNK, MASK, NUM_SPECIALS) == (0, 1, 4, 5)
    assert (vocabulary.num_items, vocabulary.vocab_size, len(vocabulary)) == (5, 10, 10)


def test_build_does_not_depend_on_the_order_of_its_input():
    table = pa.table({"item_id": ["c", "b", "a"], "count": [9, 3, 3]})
    assert Vocabulary.build(table, ["A", "d", "b"]) == make_vocabulary()


def test_encode_gives_unk_for_unknown_and_null():
    ids = make_vocabulary().encode(["d", "x", None, "c", "[MASK]"])
    assert ids.tolist() == [9, UNK, UNK, 5, UNK]
    assert ids.dtype == np.int32


def test_encode_casts_other_string_types_and_chunks():
    chunked = pa.chunked_array([["a"], ["zz"]], pa.large_string())
    assert make_vocabulary().encode(chunked).tolist() == [6, UNK]


def test_decode_inverts_encode_and_names_specials():
    vocabulary = make_vocabulary()
    ids = np.array([[5, 9], [4, 1]])
    assert vocabulary.decode(ids).tolist() == [["c", "d"], ["[MASK]", "[UNK]"]]
    with pytest.raises(ValueError, match=r"0\.\.10"):
        vocabulary.decode([10])


def test_table_joins_ids():
    table = make_vocabulary().table()
    assert table.schema == pa.schema([("item_id", pa.string()), ("item", pa.int32())])
    assert table["item"].to_pylist() == [5, 6, 7, 8, 9]


def test_save_and_load_keep_everything(tmp_path):
    vocabulary = Vocabulary.build({"蓝牙耳机": 2, 'quote"': 1})
    vocabulary.save(tmp_path / "vocabulary.json")
    assert Vocabulary.load(tmp_path / "vocabulary.json") == vocabulary
    assert [p.name for p in tmp_path.iterdir()] == ["vocabulary.json"]


def test_load_says_what_is_wrong(tmp_path):
    path = tmp_path / "vocabulary.json"
    with pytest.raises(UserError, match="missing"):
        Vocabulary.load(path)
    path.write_text("{")
    with pytest.raises(UserError, match="damaged"):
        Vocabulary.load(path)
    path.write_text('{"specials": ["<pad>"], "items": [], "train_counts": []}')
    with pytest.raises(UserError, match="<pad>"):
        Vocabulary.load(path)


def test_repeated_items_are_refused():
    with pytest.raises(ValueError, match="twice"):
        Vocabulary(["a", "a"], [1, 1])
    with pytest.raises(ValueError, match="2 items but 1"):
        Vocabulary(["a", "b"], [1])
