"""Text tokens of titles, Latin and Chinese, ours and Hugging Face's."""

import hashlib
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest

from recjax.data.text import (
    HuggingFaceTokenizer,
    WordPiece,
    load_tokenizer,
    tokenize_titles,
    train_wordpiece,
)
from recjax.data.vocabulary import CLS, PAD, SEP, SPECIALS, UNK
from recjax.data.wordpiece_training import train_pieces
from recjax.errors import UserError

TITLES = [
    "Red running shoe",
    "Blue running shoe, size 42",
    "蓝牙耳机 无线",
    "无线鼠标",
    "Wireless headphones 蓝牙",
    "",
    "Running socks",
] * 3


def test_own_special_tokens_have_the_ids_of_the_vocabulary(tmp_path):
    train_wordpiece(TITLES, 120).save(tmp_path)
    from transformers import AutoTokenizer

    opened = AutoTokenizer.from_pretrained(tmp_path, local_files_only=True)
    assert opened.convert_tokens_to_ids(list(SPECIALS)) == [0, 1, 2, 3, 4]
    assert opened.pad_token_id == PAD and opened.mask_token == "[MASK]"
    own = train_wordpiece(TITLES, 120).encode_titles(["Red 蓝牙 shoe"], 16)[0]
    assert opened("Red 蓝牙 shoe")["input_ids"] == own


def test_titles_become_padded_rows():
    tokenizer = train_wordpiece(TITLES, 200)
    tokens = tokenize_titles(["", *TITLES], tokenizer, 6)
    assert tokens.shape == (1 + len(TITLES), 6) and tokens.dtype == np.int32
    assert not tokens[0].any() and not tokens[6].any()  # no title, only padding
    assert (tokens[1:6, 0] == CLS).all()
    for row in tokens[1:6]:
        kept = row[row != PAD]
        assert kept[-1] == SEP and (kept == SEP).sum() == 1
    assert tokens.max() < tokenizer.vocab_size <= 200


def test_long_titles_keep_their_end_token():
    tokens = tokenize_titles(["shoe " * 50], train_wordpiece(TITLES, 200), 8)
    assert tokens[0, 0] == CLS and tokens[0, -1] == SEP and (tokens[0] > 0).all()


def test_chinese_characters_are_words_of_their_own():
    tokenizer = train_wordpiece(TITLES, 200)
    joined, spaced = tokenizer.encode_titles(["蓝牙耳机", "蓝 牙 耳 机"], 16)
    assert joined == spaced and len(joined) == 6
    assert UNK not in joined
    assert tokenizer.encode_titles(["龘"], 16)[0] == [CLS, UNK, SEP]


def test_training_does_not_depend_on_order_or_process(tmp_path):
    code = (
        "import sys; from recjax.data.text import train_wordpiece\n"
        f"train_wordpiece({TITLES[::-1]!r}, 120).save(sys.argv[1])"
    )
    train_wordpiece(TITLES, 120).save(tmp_path / "here")
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "there")], check=True)
    files = [(tmp_path / where / "tokenizer.json").read_bytes() for where in ("here", "there")]
    assert hashlib.sha256(files[0]).digest() == hashlib.sha256(files[1]).digest()


def slow_pieces(counts: dict[str, int], num_pieces: int) -> list[str]:
    """Byte-pair training without any bookkeeping: counts everything again for every merge."""
    words = [([w[0], *("##" + c for c in w[1:])], n) for w, n in counts.items()]
    single = Counter()
    for symbols, n in words:
        for symbol in symbols:
            single[symbol] += n
    pieces = sorted(single, key=lambda s: (-single[s], s))[:num_pieces]
    words = [(symbols, n) for symbols, n in words if set(symbols) <= set(pieces)]
    while len(pieces) < num_pieces:
        pairs = Counter()
        for symbols, n in words:
            for pair in zip(symbols, symbols[1:], strict=False):
                pairs[pair] += n
        if not pairs or max(pairs.values()) < 2:
            break
        left, right = min(pairs, key=lambda p: (-pairs[p], p))
        piece = left + right.removeprefix("##")
        for symbols, _ in words:
            i = 0
            while i < len(symbols) - 1:
                if (symbols[i], symbols[i + 1]) == (left, right):
                    symbols[i : i + 2] = [piece]
                i += 1
        if piece not in pieces:
            pieces.append(piece)
    return pieces


@pytest.mark.parametrize("seed", range(4))
def test_pieces_match_a_slow_trainer(seed):
    rng = np.random.default_rng([seed])
    words = ["".join(rng.choice(list("abc"), rng.integers(1, 9))) for _ in range(60)]
    counts = {word: int(rng.integers(1, 5)) for word in words}
    for size in (2, 5, 20, 80):
        assert train_pieces(counts, size) == slow_pieces(counts, size)


def test_own_folder_opens_again(tmp_path):
    tokenizer = train_wordpiece(TITLES, 120)
    tokenizer.save(tmp_path / "tokenizer")
    opened = load_tokenizer(tmp_path / "tokenizer")
    assert isinstance(opened, WordPiece)
    np.testing.assert_array_equal(
        tokenize_titles(TITLES, opened, 8), tokenize_titles(TITLES, tokenizer, 8)
    )


def test_a_given_hugging_face_folder_keeps_its_own_ids(tmp_path):
    words = ["[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]", "red", "shoe", "蓝", "##s"]
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "BertTokenizer"}')
    opened = load_tokenizer(tmp_path)
    assert isinstance(opened, HuggingFaceTokenizer)
    tokens = tokenize_titles(["Red shoes", "", "蓝"], opened, 6)
    assert opened.pad_id == 3 and opened.vocab_size == len(words)
    assert tokens.tolist() == [[1, 5, 6, 8, 2, 3], [3] * 6, [1, 7, 2, 3, 3, 3]]
    opened.save(tmp_path / "copy")
    assert load_tokenizer(tmp_path / "copy").encode_titles(["shoe"], 6) == [[1, 6, 2]]


def test_bad_text_input_is_explained(tmp_path):
    with pytest.raises(UserError, match="no titles"):
        train_wordpiece(["", "  "], 100)
    with pytest.raises(UserError, match="above 5, got 5"):
        train_wordpiece(TITLES, 5)
    with pytest.raises(UserError, match="at least 3, got 2"):
        tokenize_titles(TITLES, train_wordpiece(TITLES, 100), 2)
    with pytest.raises(UserError, match="missing"):
        load_tokenizer(tmp_path / "nowhere")
    with pytest.raises(UserError, match="holds no tokenizer"):
        load_tokenizer(tmp_path)
