"""Words of the simulated shop: category paths, brand names, title words.

Here: names only, a pure function of indices. Not here: what an item is worth to whom (`world`).
Called by `world` and `tables`.
"""

import numpy as np

DEPARTMENTS = (
    ("Kitchen", "kettle pan knife mug toaster scale grill bowl"),
    ("Garden", "hose spade planter lantern mower hammock trellis bench"),
    ("Fashion", "jacket shirt boots scarf dress jeans belt hat"),
    ("Electronics", "headphones charger camera speaker keyboard tablet router watch"),
    ("Sports", "racket tent mat helmet bottle rucksack skates paddle"),
    ("Toys", "puzzle robot doll kite blocks train slime drum"),
    ("Beauty", "serum balm brush perfume mask shampoo lotion palette"),
    ("Books", "novel atlas cookbook diary comic guide poster calendar"),
)
MODIFIERS = (
    "everyday travel outdoor kids pro mini deluxe vintage smart heavy light festive "
    "studio office compact family student alpine marine urban rustic retro eco luxury"
).split()
# One list per plane of the style space: the word says in which eighth of the circle an item lies.
STYLE_WORDS = (
    "red orange yellow green teal blue violet pink".split(),
    "cotton bamboo steel glass leather ceramic wool carbon".split(),
    "classic modern nordic sporty floral minimal bold gothic".split(),
    "foldable wireless waterproof insulated magnetic silent rapid handmade".split(),
)
SEGMENTS = ("families", "students", "professionals", "hobbyists", "seniors", "bargain_hunters")
AGE_BANDS = ("18-24", "25-34", "35-49", "50-64", "65+")
REGIONS = ("north", "south", "east", "west", "islands")
DEVICES = ("android", "ios", "desktop", "tablet")

_ONSETS = "b br d dr f g k kl l m n p r s st t tr v z".split()
_VOWELS = "a e i o u".split()
_CODAS = "l n r s x m".split()


def leaf_names(leaf: int) -> tuple[str, str, str]:
    """Names department, category and leaf of one leaf category.

    Neighbouring leaves share a department only every `len(DEPARTMENTS)` steps, and two leaves share
    a category before the next one opens, so that small shops have three levels too.

    >>> leaf_names(0), leaf_names(8)
    (('Kitchen', 'kettle', 'kettle'), ('Kitchen', 'kettle', 'travel kettle'))
    """
    department, nouns = DEPARTMENTS[leaf % len(DEPARTMENTS)]
    rest = leaf // len(DEPARTMENTS)
    noun = nouns.split()[(rest // 2) % 8]
    modifier = (rest // 16) * 2 + rest % 2
    if modifier == 0:
        return department, noun, noun
    series, index = divmod(modifier, len(MODIFIERS))
    return department, noun, f"{MODIFIERS[index]} {noun}" + (f" {series + 1}" if series else "")


def category_path(leaf: int) -> str:
    """Writes a leaf's path with two or three levels.

    >>> category_path(8)
    'Kitchen > kettle > travel kettle'
    """
    department, noun, name = leaf_names(leaf)
    return f"{department} > {noun}" + ("" if name == noun else f" > {name}")


def category_groups(num_leaves: int) -> np.ndarray:
    """Numbers the second level: int32 [num_leaves], leaves of one category share a number."""
    names = [leaf_names(leaf)[:2] for leaf in range(num_leaves)]
    order = {name: number for number, name in enumerate(dict.fromkeys(names))}
    return np.array([order[name] for name in names], np.int32)


def brand_name(brand: int) -> str:
    """Makes a brand's name, another for every number.

    >>> brand_name(0), brand_name(1)
    ('Bal', 'Bral')
    """
    rest, onset = divmod(brand, len(_ONSETS))
    rest, vowel = divmod(rest, len(_VOWELS))
    rest, coda = divmod(rest, len(_CODAS))
    name = (_ONSETS[onset] + _VOWELS[vowel] + _CODAS[coda]).capitalize()
    return name + (brand_name(rest - 1).lower() if rest else "")


def style_words(vectors: np.ndarray) -> np.ndarray:
    """Finds the four style words of items.

    Args:
        vectors: float [V, 8] style vectors, four planes of two.

    Returns:
        int [V, 4], index into each list of `STYLE_WORDS`.
    """
    angles = np.arctan2(vectors[:, 1::2], vectors[:, 0::2])
    return np.floor((angles / (2 * np.pi) % 1.0) * 8).astype(int) % 8


def titles(vectors: np.ndarray, leaves: np.ndarray, brands: np.ndarray) -> list[str]:
    """Writes one title per item: brand, three of its four style words, name of the leaf."""
    words = style_words(vectors)
    result = []
    for index, (row, leaf, brand) in enumerate(zip(words, leaves, brands, strict=True)):
        kept = [STYLE_WORDS[p][row[p]] for p in range(4) if p != index % 4]
        result.append(" ".join([brand_name(int(brand)), *kept, leaf_names(int(leaf))[2]]))
    return result
