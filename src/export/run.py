# SPDX-License-Identifier: Apache-2.0
"""Export: a checkpoint's network as a file for other programs, checked and written whole."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import mindspore as ms
import numpy as np
from mindspore import Tensor

from ..base.errors import UserError
from ..base.files import remove_leftovers, temporary_folder
from ..base.messages import counted, one_line
from ..detector import open_detector
from ..FasterRcnn.soft_nms import unroll_rounds
from ..images.geometry import ResizeRule, Size, canvas_text
from ..images.ops import InputFormat, normalize_and_pad
from ..images.views import views_of
from ..model_utils.config import Config
from ..model_utils.device_adapter import compute_dtype, init_device
from ..weights.opening import require_weights
from .exported_model import OUTPUT_NAMES, Comparison, Outputs, compare
from .formats import FORMATS
from .model_card import ModelFile, card_path, make_card, model_paths
from .plan import ExportPlan
from .publishing import publish

_Names = Mapping[str, Sequence[str]]  # "inputs" and "outputs" -> the tensors' names in the file

_INPUT_NAMES = ("image", "image_meta")
_MOST_ROUNDS = 300  # of Soft-NMS, written one after the other: thirty operators each
_RANDOM_INPUTS = 4  # how many are tried for one that the network finds something in


def run_export(config: Config, plan: ExportPlan) -> int:
    """Export as export.py does; the report goes to the standard output.

    Args:
        config: of the user; its defaults give way to the checkpoint's settings.
        plan: of `plan_export`.

    Returns:
        The exit code.

    Raises:
        UserError: the checkpoint does not fit, the format cannot hold the network, a file cannot be
            written, or what was written does not do what the network does.
    """
    require_weights(plan.checkpoint, plan.checkpoint_key)
    init_device(config)
    opened = open_detector(config, plan.checkpoint, plan.checkpoint_key)
    config, epoch = opened.config, opened.checkpoint.meta.get("epoch")
    canvases = ResizeRule.from_config(config).canvases
    paths = model_paths(plan.path, canvases)
    _require_no_folders(paths, config)
    # Of the target's operators and dtypes, and of MindSpore's own: files are read elsewhere.
    network = opened.network(device_target=plan.target, cpu_kernels="off")
    if not FORMATS[config.file_format].has_loops:
        _unroll(network, config)
    for line in opened.lines:
        print(one_line(line))
    if len(views_of(config)) > 1:
        print("note: the exported file looks at one view; test_flip and test_scales are not in it")

    with _folder_beside(plan.path) as folder:
        files, written = [], {}
        for path, canvas in zip(paths, canvases, strict=True):
            place = _made(folder / canvas_text(canvas))
            written[path], file = _export(network, config, canvas, path, place)
            files.append(file)
        card = make_card(
            config,
            target=plan.target,
            files=files,
            checkpoint={"file": Path(plan.checkpoint).name, "epoch": epoch},
            checked=_how_checked(config, plan.target),
        )
        surplus = publish(written, card, plan.path, _made(folder / "earlier"))
    if surplus:
        print(f"removed, of an earlier export: {', '.join(surplus)}")
    for path, file in zip(paths, files, strict=True):
        print(f"model: {path.resolve()} ({file.size / 1e6:.1f} MB, for {plan.target})")
    print(f"description: {card_path(plan.path).resolve()}")
    return 0


def _unroll(network: ms.nn.Cell, config: Config) -> None:
    rounds = unroll_rounds(network)
    if rounds > _MOST_ROUNDS:
        raise UserError(
            f"test_max_per_img: {rounds} ({config.origin('test_max_per_img')}) with test_nms_kind "
            f"{config.test_nms_kind}: {config.file_format} has no loops, so each detection makes "
            f"the graph longer; give at most {_MOST_ROUNDS}, --test_nms_kind hard, or "
            "--file_format MINDIR"
        )


def _made(folder: Path) -> Path:
    folder.mkdir()
    return folder


def _require_no_folders(paths: Sequence[Path], config: Config) -> None:
    for path in paths:
        if path.is_dir():
            raise UserError(
                f"file_name {config.file_name}: {path} is a folder; choose another name"
            )


def _export(
    network: ms.nn.Cell, config: Config, canvas: Size, path: Path, folder: Path
) -> tuple[Path, ModelFile]:
    """Write the file of one canvas into a folder, and compare it with the network.

    Args:
        network: of all canvases.
        config: the effective configuration.
        canvas: height and width of the input.
        path: where the file will belong.
        folder: an empty one.

    Returns:
        The file, and what the description says of it.
    """
    image, image_meta, expected = _reference(network, config, canvas)
    written = _write(network, config, image, image_meta, folder)
    names: _Names = {"inputs": _INPUT_NAMES, "outputs": OUTPUT_NAMES}
    if FORMATS[config.file_format].open is None:
        print(
            f"{path.name} not compared with the network: MindSpore cannot load "
            f"{config.file_format} again"
        )
    elif config.check:
        found, names = _run(written, config.file_format, image, image_meta, names)
        print(_verdict(path.name, compare(expected, found)))
    file = ModelFile(
        path.name,
        canvas,
        written.stat().st_size,
        inputs=_named(_INPUT_NAMES, names["inputs"], (image, image_meta)),
        outputs=_named(OUTPUT_NAMES, names["outputs"], expected),
    )
    return written, file


def _how_checked(config: Config, target: str) -> dict[str, str] | None:
    """Runtime and precision in which the files were compared with the network, if they were."""
    if FORMATS[config.file_format].open is None or not config.check:
        return None
    precision = compute_dtype(config.replace(device_target=target))
    return {"runtime": FORMATS[config.file_format].runtime(), "precision": precision}


def _reference(
    network: ms.nn.Cell, config: Config, canvas: Size
) -> tuple[np.ndarray, np.ndarray, Outputs]:
    """Return a random input, in which the network finds something if it can, and its outputs."""
    best: tuple[np.ndarray, np.ndarray, Outputs] | None = None
    for seed in range(_RANDOM_INPUTS):
        image, image_meta = _random_input(config, canvas, seed)
        outputs = [o.asnumpy() for o in network(Tensor(image), Tensor(image_meta))]
        if best is None or outputs[3].sum() > best[2][3].sum():
            best = image, image_meta, outputs
        if outputs[3].any(1).all():
            break
    assert best is not None  # one is tried at least
    return best


def _random_input(config: Config, canvas: Size, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pictures of random blobs in random colours, of a random size inside the canvas.

    Returns:
        image (B, 3, H, W) float32 and image_meta (B, 4) float32.
    """
    rng = np.random.default_rng(seed)
    target = InputFormat.from_config(config)
    images, metas = [], []
    for _ in range(config.test_batch_size):
        height = int(rng.integers(canvas[0] * 3 // 4, canvas[0] + 1))
        width = int(rng.integers(canvas[1] * 3 // 4, canvas[1] + 1))
        rgb = np.full((height, width, 3), rng.integers(100, 256, 3), np.uint8)
        for _ in range(30):
            centre = rng.integers(0, (width, height)).tolist()
            axes = rng.integers(2, max(3, min(height, width) // 6), 2).tolist()
            colour = rng.integers(0, 256, 3).tolist()
            cv2.ellipse(rgb, centre, axes, float(rng.uniform(0, 180)), 0, 360, colour, -1)
        noise = rng.normal(0, 8, rgb.shape)
        rgb = np.clip(rgb + noise, 0, 255).astype(np.uint8)
        images.append(normalize_and_pad(rgb, target, canvas))
        metas.append((height, width, *rng.uniform(0.5, 2.0, 2)))
    return np.stack(images), np.array(metas, np.float32)


def _write(
    network: ms.nn.Cell, config: Config, image: np.ndarray, image_meta: np.ndarray, folder: Path
) -> Path:
    """Write the model file into a folder."""
    # Not under the user's name and from inside: MindSpore refuses letters that file systems take.
    path = folder / f"model{FORMATS[config.file_format].ending}"
    try:
        with _working_folder(folder):
            FORMATS[config.file_format].write(network, image, image_meta, path.name)
    except Exception as error:  # one class for unsupported operators, full disks and the rest
        first = str(error).strip().splitlines()[0][:300]
        raise UserError(
            f"file_format {config.file_format}: MindSpore {ms.__version__} cannot export this "
            f"network ({first}); docs/deployment.md says what is known to work"
        ) from error
    if not path.is_file():
        written = ", ".join(sorted(os.listdir(folder))) or "nothing"
        raise UserError(
            f"{path.name}: MindSpore wrote {written} instead of one file; a model of 2 GB or more "
            "cannot be exported"
        )
    return path


@contextlib.contextmanager
def _working_folder(folder: Path) -> Iterator[None]:
    before = os.getcwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


def _run(
    path: Path, file_format: str, image: np.ndarray, image_meta: np.ndarray, names: _Names
) -> tuple[Outputs, _Names]:
    """Run the written file once; returns its outputs and the names of its tensors."""
    opener = FORMATS[file_format].open
    assert opener is not None
    run, inputs, outputs = opener(path, 0)
    found = run(image, image_meta)
    return found, {"inputs": inputs, "outputs": outputs} if inputs else names


def _verdict(name: str, result: Comparison) -> str:
    """One line on how file and network compare, or a `UserError` when they differ."""
    if not result.same:
        raise UserError(
            f"{name}: the written model finds something else than the network on a "
            f"random input ({result.unmatched} of {result.count} detections differ); nothing was "
            "kept, please report it with your configuration"
        )
    detections = counted(result.count, "detection")
    if result.equal:
        return f"{name} checked: equal to the network bit for bit ({detections})"
    return (
        f"{name} checked: {detections}, largest difference {result.box:.2g} px and "
        f"{result.score:.2g} in score, {result.unmatched} without a partner"
    )


def _named(
    own_names: Sequence[str], model_names: Sequence[str], arrays: Sequence[np.ndarray]
) -> dict[str, tuple[str, np.ndarray]]:
    pairs = zip(model_names, arrays, strict=True)
    return dict(zip(own_names, pairs, strict=True))


@contextlib.contextmanager
def _folder_beside(path: Path) -> Iterator[Path]:
    """A temporary folder on the file system of `path`; gone afterwards, and at the next export if
    this process is killed."""
    remove_leftovers(path.parent)
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(temporary_folder(path))
        except OSError as error:
            raise UserError(f"{path} cannot be written: {error.strerror}; set file_name") from None
        yield folder
