# SPDX-License-Identifier: Apache-2.0
"""The forms in which data sets come: COCO, VOC, YOLO and LabelMe, read, recognised and written."""
