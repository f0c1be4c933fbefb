// SPDX-License-Identifier: Apache-2.0
// How large a picture enters the network, and on which canvas: src/images/geometry.py in C++, with
// the same operations in the same order, so that both always choose alike.
#ifndef FASTER_RCNN_RESIZE_RULE_H
#define FASTER_RCNN_RESIZE_RULE_H

#include <cstddef>
#include <vector>

namespace frcnn {

struct Size {
  int height = 0, width = 0;  // pixels
};

inline bool operator==(const Size &a, const Size &b) {
  return a.height == b.height && a.width == b.width;
}

enum class ResizeKind {
  kCanvas,     // as large as a canvas holds it
  kShortEdge,  // the shorter side becomes `min_size`, or less: the longer one is at most `max_size`
  kStretch     // to the canvas, without keeping the aspect ratio
};

// Whose arithmetic of sizes and pixels.
enum class ResizeLike { kOpenCv, kTorchvision, kDetectron2 };

struct ResizeRule {
  ResizeKind kind = ResizeKind::kCanvas;
  ResizeLike like = ResizeLike::kOpenCv;
  int min_size = 0, max_size = 0;
  std::vector<Size> canvases;  // the network's input shapes

  // Number of the canvas that a picture goes onto: the smallest one that holds it at its scale, or
  // the one that it is largest on.
  std::size_t CanvasOf(Size picture) const;

  // Size of a picture on a canvas; it is made smaller than its rule says to fit.
  Size SizeOn(std::size_t canvas, Size picture) const;

 private:
  double ScaleOn(std::size_t canvas, Size picture) const;
};

}  // namespace frcnn

#endif  // FASTER_RCNN_RESIZE_RULE_H
