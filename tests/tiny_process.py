"""One of several processes that train a tiny task and rank with it; `test_processes.py` starts it.

    python tests/tiny_process.py TASK NUM_STEPS OUTPUT [LATE]

Process 0 writes the losses and what the trained members rank to OUTPUT. The mesh deals the devices
of the processes out in turn, so that no process feeds neighbouring rows. Process 1 comes LATE
seconds after the others to the first step, as if it had compiled for so much longer.
"""

import json
import sys
import time
from pathlib import Path

from recjax import distributed

sys.path.insert(0, str(Path(__file__).parent))


def main(name: str, num_steps: int, output: Path, late: float = 0) -> int:
    distributed.start()
    import jax
    import numpy as np
    from tiny_training import rank_next_items, train_steps

    from recjax.parallel import JitEngine, make_mesh

    devices = np.array(jax.devices()).reshape(jax.process_count(), -1).T.ravel()
    engine = JitEngine(make_mesh({"data": -1}, devices.tolist()))
    time.sleep(late * jax.process_index())
    losses, state = train_steps(engine, name, num_steps)
    ranks, tops = rank_next_items(engine, state.params) if name == "next_item" else ((), ())
    if distributed.is_main():
        found = {"losses": losses, "ranks": ranks, "top_items": tops}
        output.write_text(json.dumps(found, default=lambda array: array.tolist()))
    return 0


if __name__ == "__main__":
    task, steps, file, *late = sys.argv[1:]
    sys.exit(distributed.leave(main(task, int(steps), Path(file), *map(float, late))))
