import recjax.data.vocabulary as vocabulary
from recjax.models import embeddings


def test_special_ids_are_those_of_the_vocabulary():
    names = ("PAD", "UNK", "CLS", "SEP", "MASK")
    ours = [getattr(embeddings, f"{name}_ID") for name in names]
    assert ours == [getattr(vocabulary, name) for name in names]
    assert embeddings.NUM_SPECIALS == vocabulary.NUM_SPECIALS
