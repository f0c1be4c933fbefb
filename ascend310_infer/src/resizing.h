// SPDX-License-Identifier: Apache-2.0
// Bilinear resizing as torchvision and detectron2 do it; see src/images/resizing.py.
#ifndef FASTER_RCNN_RESIZING_H
#define FASTER_RCNN_RESIZING_H

#include "resize_rule.h"

namespace frcnn {

constexpr int kChannels = 3;  // of a picture, interleaved; rows follow each other without a gap

// As PyTorch's `interpolate(mode="bilinear", align_corners=False)`, without antialiasing, in
// floats. `target` has room for `to`.
void ResizeInFloats(const unsigned char *source, Size from, Size to, float *target);

// As Pillow's bilinear resampling, which detectron2 uses: a pixel is the mean of all that fall into
// it, weighted by a triangle; columns first, then rows, each rounded to 8 bits.
void ResizeByTriangles(const unsigned char *source, Size from, Size to, unsigned char *target);

}  // namespace frcnn

#endif  // FASTER_RCNN_RESIZING_H
