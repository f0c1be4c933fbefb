# SPDX-License-Identifier: Apache-2.0
"""Agreement with another program on equal weights and equal tensors, for any backbone of both.

    python -m tests.tensor_parity --peer torchvision --peer_python PYTHON --backbone resnet_v1.5_18

As `tests.file_parity`, but nothing is opened and resized: both networks get the same two normalised
images, which fill their canvas. Compares P2 to P6 and the detections. Ends with exit code 1 when a
row misses its bar.
"""

import tempfile
from pathlib import Path

import numpy as np

from benchmarks.common import table
from benchmarks.peers.inputs import make_images
from src.base.errors import run_entry
from tests import file_parity
from tests.parity import LEVEL_TOLERANCE, Row, detection_row

SIZE = (2, 256, 320)  # images, height, width


def ask_peer(options, backbone, weights, output):
    """Let the peer look; leaves its weights in the file `weights` and its numbers in `output`."""
    from safetensors.numpy import save_file

    with file_parity.open_peer(options, backbone) as peer:
        save_file(file_parity.recipe_weights(peer.ask("shapes")), str(weights))
        peer.ask("load", weights=str(weights))
        print(f"{options.peer} {peer.ask('version')}, {backbone}, weights by recipe")
        batch, height, width = SIZE
        peer.ask("tensors", batch=batch, height=height, width=width, output=str(output))


def compare(peer, checkpoint, arrays):
    """The rows: each level of the pyramid, and the detections."""
    import mindspore as ms

    from src.inference import Detector
    from tests.helpers.stages import Stages

    batch, height, width = SIZE
    images = make_images(*SIZE)
    detector = Detector(
        checkpoint,
        device_target="CPU",
        img_height=height,
        img_width=width,
        padding="canvas",  # there is none
        test_pre_nms_num=0,  # no cap of candidates, as in the peer
    )
    meta = np.float32([[height, width, 1, 1]] * batch)
    outputs = Stages(detector.network)(ms.Tensor(images), ms.Tensor(meta))
    rows = []
    for number, level in enumerate(outputs[:5], 2):
        expected = arrays[f"p{number}"]
        worst = np.abs(level.asnumpy() - expected).max() / expected.std()
        what = f"P{number}, relative to its std"
        met = worst <= LEVEL_TOLERANCE
        rows.append(Row(peer, what, f"{worst:.1e}", f"{LEVEL_TOLERANCE:g}", met))
    return [*rows, detection_row(peer, "detections", detector(images), arrays)]


def main(argv):
    """Ask both and print the table."""
    options = file_parity.peer_parser(__doc__.splitlines()[0]).parse_args(argv)
    backbone = file_parity.chosen_backbone(options)
    from src.model_utils.device_adapter import prepare_environment

    prepare_environment("CPU")
    with tempfile.TemporaryDirectory() as folder:
        weights, output = Path(folder, "weights.safetensors"), Path(folder, "peer.npz")
        ask_peer(options, backbone, weights, output)
        class_names = file_parity.output_names(options.peer)
        checkpoint = file_parity.convert(options, backbone, weights, class_names)
        with np.load(output) as arrays:
            rows = compare(options.peer, checkpoint, dict(arrays))
    lines = [(*row[1:4], "" if row.met else "MISSED") for row in rows]
    print(table(("what", "measured", "bar", ""), lines))
    return 0 if all(row.met for row in rows) else 1


if __name__ == "__main__":
    run_entry(main)
