# SPDX-License-Identifier: Apache-2.0
"""One of several processes that average tensors: python exchange_run.py FOLDER RANK WORLD_SIZE WAY.

What they tell each other stands in files of FOLDER. WAY: "all" take part; "without" leaves out the
operators of the last one; "late" lets the last one stay away from the exchange.
"""

import json
import sys
import time
from pathlib import Path

import numpy as np

SHAPES = ((700_001,), (3, 5), (1,), (2, 300_000))  # some pieces of an exchange, with odd ends
ROUNDS = 3


def tensors(rank, number):
    """What a rank brings to a round."""
    random = np.random.default_rng([rank, number])
    return [random.standard_normal(shape).astype(np.float32) for shape in SHAPES]


def main(folder, rank, world_size, way):
    from mindspore import Tensor

    from src.native.build import library
    from src.native.exchange import NativeMean, join_processes

    folder, is_last, asked = Path(folder), rank == world_size - 1, []

    def told(number, by):
        path = folder / f"{number}_{by}.json"
        until = time.monotonic() + 300
        while not path.exists():
            assert time.monotonic() < until, f"{path} does not come"
            time.sleep(0.01)
        return json.loads(path.read_text())

    def tell(content):
        asked.append(content)
        path = folder / f"{len(asked)}_{rank}.json"
        path.with_suffix(".part").write_text(json.dumps(content))
        path.with_suffix(".part").rename(path)
        return len(asked)

    def all_gather(content):
        number = tell(content)
        return [told(number, by) for by in range(world_size)]

    joined = join_processes(
        None if way == "without" and is_last else library(),
        rank,
        world_size,
        seconds=1.0 if way == "late" else 300.0,
        broadcast=lambda content: all_gather(content)[0],
        all_gather=all_gather,
    )
    answer = {"joined": joined}
    if joined and not (way == "late" and is_last):
        mean = NativeMean(library())
        try:
            for number in range(ROUNDS):
                means = mean(tuple(map(Tensor, tensors(rank, number))))
                np.savez(folder / f"means_{rank}_{number}.npz", *(m.asnumpy() for m in means))
        except RuntimeError:
            answer["failed"] = True
    print(json.dumps(answer))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
