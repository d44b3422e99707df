"""Named sets of compiler flags per TPU generation; each is compiled with by `launch aot`'s tests.

Start with "none". A flag that a generation does not know ends the process at its start, so that a
profile names the generations it is for. TPU flags travel in LIBTPU_INIT_ARGS, never in XLA_FLAGS.
"""

from launch.errors import LaunchError

_ALL = ("v4", "v5e", "v5p", "v6e")
# name -> (generations, flags)
PROFILES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "none": (_ALL, ()),
    # gradients of one layer travel while the next is computed
    "data_parallel_overlap": (
        _ALL,
        (
            "--xla_tpu_enable_data_parallel_all_reduce_opt=true",
            "--xla_tpu_data_parallel_opt_different_sized_ops=true",
        ),
    ),
    # collectives are fused into the computation that hides them
    "collective_fusion": (
        ("v5e",),
        (
            "--xla_tpu_enable_async_collective_fusion=true",
            "--xla_tpu_enable_async_collective_fusion_fuse_all_gather=true",
            "--xla_tpu_enable_async_collective_fusion_multiple_steps=true",
            "--xla_tpu_overlap_compute_collective_tc=true",
            "--xla_enable_async_all_gather=true",
        ),
    ),
    # the SparseCores move what chips exchange
    "sparsecore_collectives": (
        ("v5p", "v6e"),
        (
            "--xla_tpu_enable_sparse_core_collective_offload_all_gather=true",
            "--xla_tpu_enable_sparse_core_collective_offload_reduce_scatter=true",
            "--xla_tpu_enable_sparse_core_collective_offload_all_reduce=true",
        ),
    ),
}


def libtpu_flags(profile: str, generation: str) -> str:
    """Returns LIBTPU_INIT_ARGS of a profile.

    Raises:
        LaunchError: when there is no such profile, or it is not for this generation.
    """
    if profile not in PROFILES:
        raise LaunchError(f"flags_profile {profile!r} is unknown; known: {', '.join(PROFILES)}")
    generations, flags = PROFILES[profile]
    if generation not in generations:
        raise LaunchError(
            f"flags_profile {profile!r} is for {', '.join(generations)}, not {generation}"
        )
    return " ".join(flags)
