"""One of several processes that find each other without being told; test_detection.py starts it.

python tests/launch/joining_process.py OUTPUT
"""

import os
import sys
from pathlib import Path

import jax

from recjax import distributed


def main(output: Path) -> int:
    if "GCE_METADATA_IP" in os.environ:
        del os.environ["TPU_SKIP_MDS_QUERY"]  # JAX sets it where it sees no chip
    distributed.start()
    together = jax.device_count(), distributed.agree(jax.process_index() == 1)
    output.write_text(f"{jax.process_index()} of {jax.process_count()}: {together}")
    return distributed.leave(0)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
