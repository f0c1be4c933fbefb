# SPDX-License-Identifier: Apache-2.0
"""The report of a run: what is in its folder becomes one page."""

import datetime
from pathlib import Path
from typing import Any

from ..base.console import warn
from ..base.errors import UserError
from ..base.files import save_whole
from ..base.messages import one_line
from ..base.program import version
from ..data.validation_part import warn_of_training_data
from ..images.reading import DEFAULT_MAX_PIXELS
from ..model_utils.config import Config
from ..model_utils.configuration.schema import SETTABLE
from ..pages.page import render_page
from . import checked
from .curves import evaluation_charts, evaluation_table, training_charts, training_tiles
from .data_summary import DataSummary, class_table, findings, split_table, summarize_data
from .evaluation import evaluation_part
from .evaluation_of_results import evaluate_results_file
from .gallery import KINDS_SHOWN, MOST_PICTURES, Gallery, find_within, make_gallery
from .next_steps import next_steps
from .overview import environment_table, lead, tiles
from .run_files import RunFiles, read_run
from .settings import setting_tables

REPORT = "report.html"
_TEMPLATES = Path(__file__).parent / "templates"


def write_report(config: Config, folder: str | Path, *, pictures: int = MOST_PICTURES) -> Path:
    """Write `report.html` into the folder of a run; return its path.

    Args:
        config: the user's; keys that it does not set come from the run's own configuration.
        folder: `output_dir` of the run.
        pictures: most pictures of the gallery; 0: none is read.

    Raises:
        UserError: nothing of a run is in the folder, or the page cannot be written.
    """
    run = read_run(folder)
    html = render_page(
        "report.html",
        _values(run, _with_run_settings(config, run), pictures),
        folder=_TEMPLATES,
        styles=("report.css",),
        scripts=("charts.js", "gallery.js"),
    )
    path = run.folder / REPORT
    save_whole(path, lambda temporary: temporary.write_text(html, encoding="utf-8"))
    return path


def try_report(config: Config, folder: str | Path) -> Path | None:
    """Write the report of a run that has ended; what goes wrong is one warning.

    Args:
        config: the effective configuration.
        folder: of the run.
    """
    try:
        return write_report(config, folder)
    except Exception as error:  # a page is no reason to end a training badly
        what = str(error) if isinstance(error, UserError) else f"{type(error).__name__}: {error}"
        warn(f"WARNING: no {REPORT}: {what}")
        return None


def _with_run_settings(config: Config, run: RunFiles) -> Config:
    """The keys of the run's own configuration, but for those that the user has set."""
    own = {k: v for k, v in run.settings.items() if k in SETTABLE and not config.is_given(k)}
    try:
        return config.adopt(own, str(run.settings_file))
    except UserError as error:
        run.notes.append(f"the run's settings are not used: {error}")
        return config


def _values(run: RunFiles, config: Config, pictures: int) -> dict[str, Any]:
    """What the template shows."""
    names = [checked.text(name) for name in config.class_names]
    data = summarize_data(config)
    if not run.evaluation:
        evaluate_results_file(run, config)
    evaluation = evaluation_part(run.evaluation)
    flatters = data.has_no_validation and (run.evaluations or evaluation)
    warnings = [one_line(warn_of_training_data(config.coco_root))] if flatters else []
    gallery = _gallery(run, config, data, evaluation.threshold if evaluation else None, pictures)
    return {
        "name": one_line(run.folder.resolve().name),
        "lead": lead(run, config),
        "tiles": tiles(run, config, data),
        "warnings": warnings,
        "notes": [one_line(note) for note in run.notes],
        "training": training_charts(run.training),
        "training_tiles": training_tiles(run.training),
        "history_charts": evaluation_charts(run.evaluations, names),
        "history": evaluation_table(run.evaluations, names) if run.evaluations else None,
        "evaluation": evaluation,
        "gallery": gallery,
        "kinds": KINDS_SHOWN,
        "splits": split_table(data),
        "classes": class_table(data, names) if data.splits else None,
        "findings": findings(data),
        "settings": setting_tables(run.settings) if run.settings else None,
        "environment": environment_table(run.environment),
        "commands": next_steps(run, config),
        "written": f"{datetime.datetime.now():%Y-%m-%d %H:%M} by faster-rcnn {version()}",
    }


def _gallery(
    run: RunFiles, config: Config, data: DataSummary, threshold: float | None, pictures: int
) -> Gallery | None:
    """Pictures of the validation split, or of the folder that the evaluation names."""
    subject = checked.mapping(run.evaluation.get("subject"))
    folder = checked.text(subject.get("image_folder"), 4096)
    if "val" in data.splits:
        folder = data.splits["val"].source.image_dir

    def find(name: str) -> str:
        if not folder:
            raise UserError("the folder of the validation pictures is not known")
        return find_within(folder, name)

    return make_gallery(
        run.evaluation,
        find,
        threshold=threshold,
        max_pixels=min(int(config.max_image_pixels), DEFAULT_MAX_PIXELS),
        most_pictures=pictures,
    )
