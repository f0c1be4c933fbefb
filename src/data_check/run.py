# SPDX-License-Identifier: Apache-2.0
"""A whole check: look, count, advise, write."""

import os

from ..base.console import warn
from ..base.errors import UserError
from ..base.files import make_folder, write_json
from ..base.messages import one_line
from ..model_utils.config import Config
from .advice_file import write_advice
from .findings import Findings, find
from .inputs import sources
from .page import next_command, write_page
from .pictures import Split, look_at_split
from .summary import as_json, text_lines

PAGE, ADVICE, NUMBERS = "data_check.html", "advice.yaml", "data_check.json"
DEFAULT_OUTPUT = "data_check"


def run_check(config: Config, folder: str, *, most_pictures: int | None) -> int:
    """Check a data set and write what was found; return the exit code.

    Args:
        config: of a training on it, with the data's classes.
        folder: gets `PAGE`, `ADVICE` and `NUMBERS`; made when missing.
        most_pictures: of each split that are opened; None: all.

    Raises:
        UserError: the data cannot be used, or a file cannot be written.
    """
    places, notes = sources(config)
    make_folder(folder, "output_dir")
    workers = min(int(config.num_parallel_workers), os.cpu_count() or 1)
    splits: list[Split] = []
    for source in places:
        try:
            splits.append(look_at_split(source, most_pictures=most_pictures, workers=workers))
        except UserError as error:
            if not splits:  # nothing is learned without training pictures
                raise
            notes.append(f"note: no validation split is looked at: {error}")
    found = find(config, splits, notes)
    for line in text_lines(found):
        print(line)
    page, numbers = (os.path.join(folder, name) for name in (PAGE, NUMBERS))
    advice = str(config.path_in(folder, ADVICE))  # never over a file that it goes on from
    if found.advised.items:
        _write_advice(advice, found)
    try:
        write_json(numbers, as_json(found))
    except OSError as error:
        raise UserError(f"{numbers}: cannot be written ({error.strerror})") from None
    write_page(page, found, advice)
    print(f"\npage: {one_line(page)}")
    if found.advised.items:
        print(f"advice: {one_line(advice)} (--config_path takes it)")
        print(f"next: {next_command(found, advice)}")
    return 0


def _write_advice(path: str, found: Findings) -> None:
    """Write the advice; say where it contradicts settings of the user."""
    try:
        write_advice(path, found.config, found.advised, evaluates=found.has_validation)
    except UserError as error:
        if not os.path.exists(path):  # it could not be written
            raise
        warn(f"note: the advice does not go with the other settings: {error}")
