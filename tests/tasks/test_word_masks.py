import jax
import jax.numpy as jnp
import numpy as np
import pytest

from recjax.data import corpus
from recjax.tasks import word_masks
from recjax.tasks.word_masks import mask_words

MASK, LENGTH, TOKENS, COUNT = 4, 12, 60, 2000
KIND = np.repeat([0, 1, 2], [5, 35, 20])


def _texts(count, seed=0):
    """[CLS] words of one to three pieces [SEP] padding."""
    rng = np.random.default_rng(seed)
    tokens = np.zeros((count, LENGTH), np.int32)
    for row in tokens:
        pieces = [2]
        while len(pieces) < rng.integers(4, 9):
            more = rng.integers(0, 3)
            pieces += [rng.integers(5, 40), *rng.integers(40, 60, more)]
        row[: len(pieces) + 1] = [*pieces, 3]
    return tokens


def _words(row):
    """Lists of positions, one per word."""
    words = []
    for at, token in enumerate(row):
        if KIND[token] == 1 or (KIND[token] == 2 and KIND[row[at - 1]] == 0):
            words.append([at])
        elif KIND[token] == 2:
            words[-1].append(at)
    return words


def _mask(tokens, rate=0.3, seed=0):
    keys = jax.random.split(jax.random.key(seed), len(tokens))
    run = jax.jit(mask_words, static_argnames=("rate", "mask_id"))
    found = run(jnp.asarray(tokens), jnp.asarray(KIND), keys, rate=rate, mask_id=MASK)
    return word_masks.MaskedWords(*map(np.asarray, found))


def _predicted(words, tokens):
    chosen = np.zeros(tokens.shape, bool)
    for row, slot in np.argwhere(words.weights > 0):
        chosen[row, words.positions[row, slot]] = True
    return chosen


def test_kinds_are_those_of_the_data_room():
    names = ("SPECIAL", "WORD", "CONTINUATION")
    assert [getattr(word_masks, n) for n in names] == [getattr(corpus, n) for n in names]


def test_words_are_predicted_as_wholes_and_every_text_has_one():
    tokens = _texts(COUNT)
    words = _mask(tokens)
    chosen = _predicted(words, tokens)
    for row, mask in zip(tokens, chosen, strict=True):
        assert all(mask[word].all() or not mask[word].any() for word in _words(row))
        assert mask.any() and not mask[KIND[row] == 0].any()
    np.testing.assert_array_equal(words.targets, np.take_along_axis(tokens, words.positions, 1))
    np.testing.assert_array_equal(words.tokens[~chosen], tokens[~chosen])


def test_share_of_words_and_what_hides_them_follow_the_rule():
    tokens = np.tile(np.array([[2, *range(5, 15), 3]], np.int32), (COUNT, 1))  # 10 words of a piece
    words = _mask(tokens)
    chosen = _predicted(words, tokens)
    counts = np.random.default_rng(0).binomial(10, 0.3, 200_000)
    expected = np.clip(counts, 1, 9).mean() / 10  # one where there was none; room for 9
    share = chosen[:, 1:11].mean()
    assert abs(share - expected) < 4 * np.sqrt(0.3 * 0.7 / (10 * COUNT))
    seen, was = words.tokens[chosen], tokens[chosen]
    bound = 4 * np.sqrt(0.8 * 0.2 / len(seen))
    assert abs((seen == MASK).mean() - (0.8 + 0.1 / TOKENS)) < bound
    assert abs((seen == was).mean() - (0.1 + 0.1 / TOKENS)) < bound


def test_pieces_of_a_word_share_one_rule():
    tokens = np.tile(np.array([[2, 7, 41, 42, 43, 3, *[0] * 6]], np.int32), (COUNT, 1))
    words = _mask(tokens)  # of one word, four pieces
    hidden = (words.tokens[:, 1:5] == MASK).mean(axis=1)
    assert set(np.round(hidden, 2)) <= {0.0, 0.25, 1.0}  # a random piece may be [MASK] by chance
    assert abs((hidden == 1).mean() - 0.8) < 4 * np.sqrt(0.16 / COUNT)


def test_a_word_without_room_is_left_alone_as_a_whole():
    tokens = np.array([[2, 7, *range(41, 51)], [2, 7, 3] + [0] * 9], np.int32)  # 11 pieces; 1
    words = _mask(tokens, rate=0.1)
    assert words.weights.sum(axis=1).tolist() == [0, 1]
    np.testing.assert_array_equal(words.tokens[0], tokens[0])


@pytest.mark.parametrize("row", [0, 3])
def test_mask_depends_on_the_texts_own_key_and_tokens(row):
    tokens, keys = jnp.asarray(_texts(4)), jax.random.split(jax.random.key(0), 4)
    run = jax.jit(lambda t, k: mask_words(t, jnp.asarray(KIND), k, rate=0.3, mask_id=MASK))
    alone = run(tokens[row : row + 1], keys[row : row + 1])
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a[row], b[0]), run(tokens, keys), alone)
    other = run(tokens, jax.random.split(jax.random.key(1), 4))
    assert not np.array_equal(other.tokens, run(tokens, keys).tokens)
