# SPDX-License-Identifier: Apache-2.0
"""A checkpoint's network in MindSpore."""

from collections.abc import Callable, Sequence

from mindspore import Tensor

from ..detector import ViewsDetector, open_detector
from ..model_utils.config import Config
from .interface import OpenBackend

GraphRunner = Callable[..., Sequence[Tensor]]


def open_checkpoint(
    config: Config, graphs: Callable[[Config], GraphRunner], min_score: float | None = None
) -> OpenBackend:
    """Open the checkpoint that `checkpoint_path` names.

    Args:
        config: of the user; its defaults give way to the checkpoint's settings.
        graphs: makes what calls Cells, such as a `CompileCache`, of the effective configuration.
        min_score: scores down to this one are wanted, even where test_score_thr is higher.

    Raises:
        UserError: it cannot be used.
    """
    import mindspore as ms

    opened = open_detector(config, config.checkpoint_path)
    lowest = opened.config.test_score_thr
    if min_score is not None and min_score < lowest:  # the network drops what is below
        lowest = min_score
    network = opened.network(test_score_thr=lowest)
    config = opened.config.replace(test_score_thr=lowest)
    epoch = opened.checkpoint.meta.get("epoch")
    return OpenBackend(
        ViewsDetector(network, config, graphs(config)),
        config,
        source=f"checkpoint {config.checkpoint_path}{f' (epoch {epoch})' if epoch else ''}",
        runtime=f"device_target {config.device_target}, MindSpore {ms.__version__}",
        lines=opened.lines,
        epoch=epoch,
        network=network,
    )
