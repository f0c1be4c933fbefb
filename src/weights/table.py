# SPDX-License-Identifier: Apache-2.0
"""The weights that are known by name: data.

Everything here is what the publisher states, where it was read is in docs/weights.md. A digest in a
file's name is read out of it.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from ..storage.http_download import Digest

SHA256, MD5 = "sha256", "md5"
_V1_5_18, _V1_5_34, _V1_5_50 = "resnet_v1.5_18", "resnet_v1.5_34", "resnet_v1.5_50"
_V1_50, _V1_101, _V1_152 = "resnet_v1_50", "resnet_v1_101", "resnet_v1_152"
_V1_101_CAFFE = "resnet_v1_101_caffe"
_X50_32X4D, _WIDE_50 = "resnext_50_32x4d", "wide_resnet_50_2"
_X101_32X8D, _X101_64X4D = "resnext_101_32x8d", "resnext_101_64x4d"
_V2_HEADS = ("fpn_norm", "rpn_conv_depth", "rcnn_head")


class Publisher(NamedTuple):
    """Who publishes weights.

    Attributes:
        licence: of the weights, as far as it is stated.
        folder: what the addresses of its files begin with.
        digest: finds the beginning of a file's digest in its name.
        algorithm: of that digest.
    """

    licence: str
    folder: str
    digest: str = ""
    algorithm: str = SHA256


class Published(NamedTuple):
    """A file that somebody has published.

    Attributes:
        name: PUBLISHER/NAME.
        url: where it is.
        gives: its published number: AP, or AP50, on COCO's val2017 of a detector; top-1 accuracy
            on ImageNet, in percent, of a classifier, whose backbone it is.
        backbone: the configuration's name of its backbone.
        digest: None where the publisher states none.
        mebibytes: of the file; None where the publisher does not say.
        settings: configuration keys that the file does not say.
        needs: configuration keys without which it cannot be used.
    """

    name: str
    url: str
    gives: str
    backbone: str
    digest: Digest | None
    mebibytes: float | None = None
    settings: Mapping[str, Any] = {}
    needs: tuple[str, ...] = ()

    @property
    def publisher(self) -> str:
        """The part of the name before the slash."""
        return self.name.partition("/")[0]

    @property
    def file_name(self) -> str:
        """What its publisher calls the file; unlike that of every other file of the publisher."""
        return self.url.rpartition("/")[2]

    @property
    def is_detector(self) -> bool:
        """Whether it is a whole detector, and not the backbone of a classifier."""
        return self.gives.startswith("AP")


PUBLISHERS = {
    "torchvision": Publisher(
        licence="none stated for the weights; torchvision's code: BSD-3-Clause",
        folder="https://download.pytorch.org/models/",
        digest=r"-([0-9a-f]{8})\.pth$",
    ),
    "detectron2": Publisher(
        licence="CC BY-SA 3.0",
        folder="https://dl.fbaipublicfiles.com/detectron2/",
        digest=r"model_final_([0-9a-f]{6})\.pkl$",
        algorithm=MD5,
    ),
    "mmdetection": Publisher(
        licence="none stated for the weights; mmdetection's code: Apache-2.0",
        folder="https://download.openmmlab.com/mmdetection/v2.0/faster_rcnn/",
        digest=r"-([0-9a-f]{8})\.pth$",
    ),
    "mindcv": Publisher(
        licence="none stated for the weights; mindcv's code: Apache-2.0",
        folder="https://download.mindspore.cn/toolkits/mindcv/",
        digest=r"-([0-9a-f]{8})\.ckpt$",
    ),
    "mindspore": Publisher(
        licence="Apache-2.0; for research and education",
        folder="https://download.mindspore.cn/models/r1.10/",
    ),
}


def _row(
    name: str,
    file: str,
    gives: str,
    backbone: str,
    mebibytes: float | None = None,
    *,
    sha256: str = "",
    **more: Any,
) -> Published:
    """A row; `file` is its address below the publisher's folder."""
    publisher = PUBLISHERS[name.partition("/")[0]]
    digest = Digest(SHA256, sha256) if sha256 else None
    found = re.search(publisher.digest, file) if publisher.digest else None
    if found:
        digest = Digest(publisher.algorithm, found[1])
    return Published(name, publisher.folder + file, gives, backbone, digest, mebibytes, **more)


def _torchvision() -> Iterable[Published]:
    """Sizes and numbers as in `torchvision.models.*_Weights`."""
    detector = "torchvision/fasterrcnn_resnet50_fpn"
    file = "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"
    yield _row(f"{detector}_coco", file, "AP 37.0", _V1_5_50, 159.743)
    file = "fasterrcnn_resnet50_fpn_v2_coco-dd69338a.pth"
    yield _row(f"{detector}_v2_coco", file, "AP 46.7", _V1_5_50, 167.104, needs=_V2_HEADS)
    for name, digest, accuracy, backbone, mebibytes in (
        ("resnet18", "f37072fd", 69.758, _V1_5_18, 44.661),
        ("resnet34", "b627a593", 73.314, _V1_5_34, 83.275),
        ("resnet50", "0676ba61", 76.13, _V1_5_50, 97.781),
        ("resnet50_v2", "11ad3fa6", 80.858, _V1_5_50, 97.79),
        ("resnet101", "63fe2227", 77.374, _V1_101, 170.511),
        ("resnet101_v2", "cd907fc2", 81.886, _V1_101, 170.53),
        ("resnet152", "394f9c45", 78.312, _V1_152, 230.434),
        ("resnet152_v2", "f82ba261", 82.284, _V1_152, 230.474),
        ("resnext50_32x4d", "7cdf4587", 77.618, _X50_32X4D, 95.789),
        ("resnext50_32x4d_v2", "1a0047aa", 81.198, _X50_32X4D, 95.833),
        ("resnext101_32x8d", "8ba56ff5", 79.312, _X101_32X8D, 339.586),
        ("resnext101_32x8d_v2", "110c445d", 82.834, _X101_32X8D, 339.673),
        ("resnext101_64x4d", "173b62eb", 83.246, _X101_64X4D, 319.318),
        ("wide_resnet50_2", "95faca4d", 78.468, _WIDE_50, 131.82),
        ("wide_resnet50_2_v2", "9ba9bcbe", 81.602, _WIDE_50, 263.124),
    ):
        file = f"{name.removesuffix('_v2')}-{digest}.pth"
        yield _row(f"torchvision/{name}", file, f"top-1 {accuracy}", backbone, mebibytes)


def _detectron2() -> Iterable[Published]:
    """The pyramids of its MODEL_ZOO.md; "noaug" is of its comparison with Detectron."""
    for name, file, average, backbone in (
        ("R_50_FPN_1x", "137257794/model_final_b275ba", 37.9, _V1_50),
        ("R_50_FPN_3x", "137849458/model_final_280758", 40.2, _V1_50),
        ("R_101_FPN_3x", "137851257/model_final_f6e8b1", 42.0, _V1_101_CAFFE),
        ("X_101_32x8d_FPN_3x", "139173657/model_final_68b088", 43.0, _X101_32X8D),
    ):
        path = f"COCO-Detection/faster_rcnn_{name}/{file}.pkl"
        yield _row(f"detectron2/faster_rcnn_{name}", path, f"AP {average}", backbone)
    for name, accuracy, backbone in (("R-50", "", _V1_50), ("R-101", "", _V1_101_CAFFE)):
        path = f"ImageNetPretrained/MSRA/{name}.pkl"
        yield _row(f"detectron2/{name}", path, accuracy, backbone)


def _mmdetection() -> Iterable[Published]:
    """Those of its configs/faster_rcnn/metafile.yml whose network is one of this project."""
    for name, file, average, backbone in (
        ("r50_caffe_fpn_1x", "_bbox_mAP-0.378_20200504_180032-c5925ee5", 37.8, _V1_50),
        ("r50_caffe_fpn_mstrain_3x", "_20210526_095054-1f77628b", 39.9, _V1_50),
        ("r50_fpn_1x", "_20200130-047c8118", 37.4, _V1_5_50),
        ("r50_fpn_2x", "_bbox_mAP-0.384_20200504_210434-a5d8aa15", 38.4, _V1_5_50),
        ("r50_fpn_mstrain_3x", "_20210524_110822-e10bd31c", 40.3, _V1_5_50),
        ("r101_caffe_fpn_1x", "_bbox_mAP-0.398_20200504_180057-b269e9dd", 39.8, _V1_101_CAFFE),
        ("r101_caffe_fpn_mstrain_3x", "_20210526_095742-a7ae426d", 42.0, _V1_101_CAFFE),
        ("r101_fpn_1x", "_20200130-f513f705", 39.4, _V1_101),
        ("r101_fpn_2x", "_bbox_mAP-0.398_20200504_210455-1d2dac9c", 39.8, _V1_101),
        ("r101_fpn_mstrain_3x", "_20210524_110822-4d4d2ca8", 41.8, _V1_101),
        ("x101_32x8d_fpn_mstrain_3x", "_20210604_182954-002e082a", 42.4, _X101_32X8D),
        ("x101_64x4d_fpn_1x", "_20200204-833ee192", 42.1, _X101_64X4D),
        ("x101_64x4d_fpn_2x", "_20200512_161033-5961fa95", 41.6, _X101_64X4D),
        ("x101_64x4d_fpn_mstrain_3x", "_20210524_124528-26c63de6", 43.1, _X101_64X4D),
    ):
        whole = f"faster_rcnn_{name}_coco"
        path = f"{whole}/{whole}{file}.pth"
        yield _row(f"mmdetection/{whole}", path, f"AP {average}", backbone)


def _mindcv() -> Iterable[Published]:
    """Those of its mindcv/models/resnet.py; accuracies from the READMEs in its configs."""
    for name, digest, accuracy, backbone in (
        ("resnet18", "1e65cd21", 70.21, _V1_5_18),
        ("resnet34", "f297d27e", 74.15, _V1_5_34),
        ("resnet50", "e0733ab8", 76.69, _V1_5_50),
        ("resnet101", "689c5e77", 78.24, _V1_101),
        ("resnet152", "beb689d8", 78.72, _V1_152),
        ("resnext50_32x4d", "af8aba16", 78.53, _X50_32X4D),
        ("resnext101_64x4d", "8929255b", 80.3, _X101_64X4D),
    ):
        file = f"{re.sub(r'[0-9].*', '', name)}/{name}-{digest}.ckpt"
        yield _row(f"mindcv/{name}", file, f"top-1 {accuracy}", backbone)


def _mindspore() -> Iterable[Published]:
    """The newest of MindSpore Hub, whose pages state whole digests."""
    for name, file, gives, backbone, sha256 in (
        (
            "fasterrcnn_resnetv150_coco2017",
            "fasterrcnn_resnetv150_ascend_v1100_coco2017_official_cv_AP50acc60.5",
            "AP50 60.5",
            _V1_50,
            "7171792d5b82863cbc5d64c2f0f0a52315e752aa32f083cd7c89b886648eb6ed",
        ),
        (
            "fasterrcnn_resnetv1101_coco2017",
            "fasterrcnn_resnetv1101_ascend_v1100_coco2017_official_cv_mAP40.1",
            "AP 40.1",
            _V1_101,
            "10e9276500fb598d89e9f97d16821364ed28ac11dc7e1f17705c133fd7cc80fa",
        ),
        (
            "fasterrcnn_resnetv1152_coco2017",
            "fasterrcnn_resnetv1152_ascend_v1100_coco2017_official_cv_mAP41.3",
            "AP 41.3",
            _V1_152,
            "51543a0f9c8ed7d78f0811d1746ef398f739a8c7e3fa5073433c7f7cbd8c53f2",
        ),
        (
            "resnet50_imagenet2012",
            "resnet50_ascend_v1100_imagenet2012_official_cv_top1acc76.97_top5acc93.44",
            "top-1 76.97",
            _V1_5_50,
            "41c1479844f6f848d4caf902cf940ebe4727df559495ed45885892fc55a2738f",
        ),
        (
            "resnet101_imagenet2012",
            "resnet101_ascend_v1100_imagenet2012_official_cv_top1acc78.55_top5acc94.34",
            "top-1 78.55",
            _V1_101,
            "d0ad1bb5fbd692b8fbfb7b6304560197bd4003e5c88f77ab1cee4141f302b936",
        ),
        (
            "resnet152_imagenet2012",
            "resnet152_ascend_v1100_imagenet2012_official_cv_top1acc78.72_top5acc94.31",
            "top-1 78.72",
            _V1_152,
            "76d176503f5a18bf60b5ee0ad23f150b36306b616c5798aef4df4ff917538a5f",
        ),
    ):
        is_detector = gives.startswith("AP")
        settings = {"backbone": backbone} if is_detector else {}  # v1 and v1.5 look alike
        yield _row(
            f"mindspore/{name}", f"{file}.ckpt", gives, backbone, sha256=sha256, settings=settings
        )


TABLE: dict[str, Published] = {
    row.name: row
    for rows in (_torchvision(), _detectron2(), _mmdetection(), _mindcv(), _mindspore())
    for row in rows
}
