import pytest

from recjax.parallel.aot import collectives, out_of_memory

HLO = """
  %all-reduce.1 = f32[8,128]{1,0:T(8,128)} all-reduce(%p), channel_id=1, replica_groups=[1,8]<=[8]
  %ar.2 = (f32[4]{0:T(128)}, s32[2]{0:T(128)}) all-reduce(%a, %b), to_apply=%add
  %ag = (bf16[2,4]{1,0}, bf16[16,4]{1,0}) all-gather-start(%x), dimensions={0}
  %agd = bf16[16,4]{1,0:T(8,128)(2,1)} all-gather-done(%ag)
  ROOT %rs = pred[3]{0} reduce-scatter(%y), dimensions={0}
  %f = f32[2]{0} fusion(%all-reduce.1), calls=%all-reduce-like
"""


def test_collectives_are_counted_with_the_bytes_of_their_results():
    assert collectives(HLO) == {
        "all-gather": {"count": 1, "bytes": 16 * 4 * 2},
        "all-reduce": {"count": 2, "bytes": 8 * 128 * 4 + 4 * 4 + 2 * 4},
        "reduce-scatter": {"count": 1, "bytes": 3},
    }


def test_program_without_collectives_has_none():
    assert collectives("%a = f32[2]{0} add(%b, %c)") == {}


@pytest.mark.parametrize(
    "error",
    [
        "RESOURCE_EXHAUSTED: E1000: CompileTimeHbmOom: Ran out of memory on HBM, the total memory "
        "required (38.15G) exceeds available HBM (15.75G)\n\nTotal usage: ...",
        "XLA: Ran out of memory in memory space hbm. Used 38.15G of 15.75G hbm.\n\nmore\nlines",
    ],
)
def test_sentence_with_the_compilers_figure_is_kept(error):
    text = out_of_memory(error)
    assert text.startswith("Ran out of memory") and "38.15G" in text and "15.75G" in text
    assert "\n" not in text and "more" not in text
