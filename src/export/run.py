# SPDX-License-Identifier: Apache-2.0
"""Export: a checkpoint's network as a file for other programs, checked and written whole."""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mindspore as ms
import numpy as np

from ..base.errors import UserError
from ..base.files import remove_leftovers, temporary_folder, working_folder
from ..base.messages import one_line
from ..detector import open_detector
from ..FasterRcnn.soft_nms import soft_nms_rounds
from ..images.geometry import ResizeRule, Size, canvas_text
from ..images.ops import InputFormat
from ..images.views import views_of
from ..model_utils.config import Config
from ..model_utils.device_adapter import compute_dtype, init_device
from ..weights.opening import require_weights
from .accuracy import Score, measure_loss
from .checking import INPUT_NAMES, Checked, Reference, after_nms, make_reference, run_file, verdict
from .exported_model import OUTPUT_NAMES
from .formats import FORMATS
from .model_card import ModelFile, card_path, make_card, model_paths
from .onnx_form import ONNX, OnnxForm
from .plan import ExportPlan
from .publishing import publish


@dataclass(frozen=True, slots=True)
class _Job:
    """What is exported: the network of a configuration, in a form."""

    network: ms.nn.Cell
    config: Config
    form: OnnxForm
    target: str


def run_export(config: Config, plan: ExportPlan, score: Score | None = None) -> int:
    """Export as export.py does; the report goes to the standard output.

    Args:
        config: of the user; its defaults give way to the checkpoint's settings.
        plan: of `plan_export`.
        score: says how good 8-bit files are; None: there is no validation data.

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
    _require_few_rounds(network, config)
    for line in opened.lines:
        print(one_line(line))
    if len(views_of(config)) > 1:
        print("note: the exported file looks at one view; test_flip and test_scales are not in it")

    job = _Job(network, config, plan.form, plan.target)
    with _folder_beside(plan.path) as folder:
        files, written = [], {}
        for path, canvas in zip(paths, canvases, strict=True):
            place = _made(folder / canvas_text(canvas))
            written[path], file = _export(job, canvas, path, place)
            files.append(file)
        card = make_card(
            config,
            target=plan.target,
            files=files,
            checkpoint={"file": Path(plan.checkpoint).name, "epoch": epoch},
            checked=_how_checked(job),
            form=plan.form.described() if config.file_format == ONNX else None,
        )
        if plan.form.int8:
            card |= _accuracy(score, card, written, _made(folder / "scored"))
        surplus = publish(written, card, plan.path, _made(folder / "earlier"))
    if surplus:
        print(f"removed, of an earlier export: {', '.join(surplus)}")
    for path, file in zip(paths, files, strict=True):
        print(f"model: {path.resolve()} ({file.size / 1e6:.1f} MB, for {plan.target})")
    print(f"description: {card_path(plan.path).resolve()}")
    return 0


def _accuracy(
    score: Score | None, card: Mapping[str, Any], written: Mapping[Path, Path], folder: Path
) -> dict[str, Any]:
    """Measure what 8 bits lose, for the description."""
    if score is None:
        print("note: int8 without validation data: AP was not measured; give --coco_root DIR")
        return {"accuracy": None}
    accuracy = measure_loss(score, card, written, folder)
    print(f"AP in float32 {accuracy['ap_float32']:.4f}, in 8 bits {accuracy['ap']:.4f}")
    return {"accuracy": accuracy}


def _require_few_rounds(network: ms.nn.Cell, config: Config) -> None:
    rounds, most = soft_nms_rounds(network), FORMATS[config.file_format].most_rounds
    if most and rounds > most:
        raise UserError(
            f"test_max_per_img: {rounds} ({config.origin('test_max_per_img')}) with test_nms_kind "
            f"{config.test_nms_kind}: {config.file_format} has no loops, so each detection makes "
            f"the graph longer; give at most {most}, --test_nms_kind hard, or --file_format MINDIR"
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


def _export(job: _Job, canvas: Size, path: Path, folder: Path) -> tuple[Path, ModelFile]:
    """Write the file of one canvas into a folder, and compare it with the network.

    Args:
        job: what is exported.
        canvas: height and width of the input.
        path: where the file will belong.
        folder: an empty one.

    Returns:
        The file, and what the description says of it.
    """
    config, form = job.config, job.form
    reference = make_reference(job.network, config, canvas, form)
    written = _write(job, reference, folder)
    checked = Checked(INPUT_NAMES, OUTPUT_NAMES, reference.expected)
    if FORMATS[config.file_format].open is None:
        print(
            f"{path.name} not compared with the network: MindSpore cannot load "
            f"{config.file_format} again"
        )
    elif config.check:
        checked = run_file(written, config.file_format, form, reference)
        found = checked.found
        if form.without_nms:
            found = after_nms(job.network, found)
        print(verdict(path.name, form, reference.expected, found))
    file = ModelFile(
        path.name,
        canvas,
        written.stat().st_size,
        inputs=_named(INPUT_NAMES, checked.inputs, reference.inputs(form)),
        outputs=_named(OUTPUT_NAMES, checked.outputs, checked.found),
        graph=_summary(written) if config.file_format == ONNX else {},
    )
    return written, file


def _how_checked(job: _Job) -> dict[str, str] | None:
    """Runtime and precision in which the files were compared with the network, if they were."""
    file_format = FORMATS[job.config.file_format]
    if file_format.open is None or not job.config.check:
        return None
    precision = compute_dtype(job.config.replace(device_target=job.target))
    if not job.form.is_exact:
        precision = job.form.precision
    return {"runtime": file_format.runtime(), "precision": precision}


def _write(job: _Job, reference: Reference, folder: Path) -> Path:
    """Write the model file into a folder."""
    config = job.config
    # Not under the user's name and from inside: MindSpore refuses letters that file systems take.
    path = folder / f"model{FORMATS[config.file_format].ending}"
    try:
        with working_folder(folder):
            FORMATS[config.file_format].write(
                job.network,
                reference.image,
                reference.image_meta,
                path.name,
                job.form,
                InputFormat.from_config(config),
            )
    except UserError:
        raise
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


def _named(
    own_names: Sequence[str], model_names: Sequence[str], arrays: Sequence[np.ndarray]
) -> dict[str, tuple[str, np.ndarray]]:
    pairs = list(zip(model_names, arrays, strict=True))
    return dict(zip(own_names[: len(pairs)], pairs, strict=True))


def _summary(path: Path) -> dict[str, object]:
    from .onnx_graph.inspection import summary

    return dict(summary(path))


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
