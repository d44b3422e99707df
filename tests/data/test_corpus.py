"""Kinds of tokens, and documents as rows of tokens."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from recjax.data.corpus import (
    CONTINUATION,
    SPECIAL,
    WORD,
    read_lines,
    read_reviews,
    token_kinds,
    tokenize_corpus,
)
from recjax.data.text import load_tokenizer, train_wordpiece
from recjax.data.vocabulary import CLS, MASK, PAD, SEP
from recjax.errors import UserError

TITLES = ["red running shoe", "blue running socks", "蓝牙耳机", "无线鼠标"] * 3


@pytest.fixture(scope="module")
def tokenizer():
    return train_wordpiece(TITLES, 60)


def test_kinds_follow_the_pieces_and_each_chinese_character_is_a_word(tokenizer):
    kinds = token_kinds(tokenizer)
    assert kinds.shape == (tokenizer.vocab_size,) and (kinds[:5] == SPECIAL).all()
    for piece, number in tokenizer.pieces().items():
        if number >= 5:
            assert kinds[number] == (CONTINUATION if piece.startswith("##") else WORD)
    assert (kinds == CONTINUATION).any()
    ids = tokenizer.encode_titles(["蓝牙耳机"], 16)[0]
    assert kinds[ids].tolist() == [SPECIAL, *[WORD] * 4, SPECIAL]


def test_a_tokenizer_of_hugging_face_has_the_same_kinds(tokenizer, tmp_path):
    from transformers import AutoTokenizer

    from recjax.data.text import HuggingFaceTokenizer

    tokenizer.save(tmp_path)
    theirs = HuggingFaceTokenizer(AutoTokenizer.from_pretrained(tmp_path, local_files_only=True))
    assert theirs.mask_id == tokenizer.mask_id == MASK
    np.testing.assert_array_equal(token_kinds(theirs), token_kinds(load_tokenizer(tmp_path)))


def test_documents_are_cut_into_whole_rows_and_nothing_is_lost(tokenizer):
    document = " ".join(TITLES)
    rows = tokenize_corpus(["", document, "red shoe"], tokenizer, 8)
    assert rows.shape[1] == 8 and (rows[:, 0] == CLS).all()
    assert all((row == SEP).sum() == 1 and row[row != PAD][-1] == SEP for row in rows)
    body = [token for row in rows for token in row if token not in (PAD, CLS, SEP)]
    assert body == [
        token
        for text in (document, "red shoe")
        for token in tokenizer.encode_titles([text], 1000)[0][1:-1]
    ]


def test_lines_of_a_file_are_documents_and_a_missing_file_names_its_key(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text("one shoe\n\n蓝牙 \n", encoding="utf-8")
    assert list(read_lines(path)) == ["one shoe", "", "蓝牙"]
    with pytest.raises(UserError, match="config.pretrain.text.corpus = .*none.txt"):
        list(read_lines(tmp_path / "none.txt"))
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(UserError, match="UTF-8"):
        list(read_lines(path))


def test_reviews_are_those_of_the_training_part(tmp_path):
    table = {"part": pa.array([0, 0, 1, 2, 0], pa.int8()), "text": ["good", None, "x", "y", "bad"]}
    pq.write_table(pa.table(table), tmp_path / "events.parquet")
    assert list(read_reviews(tmp_path / "events.parquet")) == ["good", "bad"]
    pq.write_table(pa.table({"part": [0]}), tmp_path / "events.parquet")
    with pytest.raises(UserError, match=r"config.data.columns.text"):
        list(read_reviews(tmp_path / "events.parquet"))
