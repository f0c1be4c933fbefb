# SPDX-License-Identifier: Apache-2.0
"""Which of its forms an ONNX file has. Without MindSpore and without onnx."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..base.errors import UserError
from ..model_utils.config import Config

ONNX = "ONNX"
_FLAGS = ("dynamic_batch", "with_preprocessing", "without_nms", "half", "int8")


@dataclass(frozen=True, slots=True)
class OnnxForm:
    """What export.py is asked to make of the network in an ONNX file.

    Attributes:
        dynamic_batch: it takes any number of images.
        with_preprocessing: it takes (B, H, W, 3) uint8 RGB.
        without_nms: it ends with the boxes and scores that NMS would get.
        half: weights are kept in float16, and computed with in float32.
        int8: convolutions and dense layers compute in 8 bits.
        calibration: folder of the pictures whose values int8 is fitted to.
        calibration_images: most of them that are looked at.
        calibration_method: "entropy" or "percentile": how their range is found.
    """

    dynamic_batch: bool = False
    with_preprocessing: bool = False
    without_nms: bool = False
    half: bool = False
    int8: bool = False
    calibration: str = ""
    calibration_images: int = 0
    calibration_method: str = ""

    @classmethod
    def from_config(cls, config: Config) -> "OnnxForm":
        """Return the form that a configuration asks for.

        Args:
            config: uses the keys of the attributes' names, and file_format.

        Raises:
            UserError: they contradict each other.
        """
        form = cls(**{key: getattr(config, key) for key in cls.__dataclass_fields__})
        asked = [key for key in _FLAGS if getattr(config, key)]
        if asked and config.file_format != ONNX:
            raise UserError(
                f"{asked[0]} True ({config.origin(asked[0])}) with file_format "
                f"{config.file_format}: only {ONNX} files have it; give --file_format {ONNX}"
            )
        if form.half and form.int8:
            raise UserError(
                f"half and int8 are both True ({config.origin('half')}): a file has one of them; "
                "give --half False, or --int8 False"
            )
        folder = Path(form.calibration).expanduser()
        if form.int8 and not (form.calibration and folder.is_dir()):
            raise UserError(
                f"calibration {form.calibration!r} ({config.origin('calibration')}) is no folder: "
                "int8 is fitted to pictures like those that the model will see; give 50 to 500 of "
                "them with --calibration DIR"
            )
        return form

    @property
    def is_exact(self) -> bool:
        """Whether the file computes what the network does, but for rounding of float32."""
        return not (self.half or self.int8)

    @property
    def precision(self) -> str:
        """What the file computes in, for its description."""
        if self.int8:
            return "int8"
        return "float32 (weights float16)" if self.half else "float32"

    def described(self) -> Mapping[str, Any]:
        """Return what the description says of the form."""
        return {key: getattr(self, key) for key in _FLAGS}
