// SPDX-License-Identifier: Apache-2.0
// The C++ application's resizing as functions for ctypes, to be compared with Python's.
#include "resize_rule.h"

#include <vector>

#include "resizing.h"

extern "C" {

// `rule`: kind, like, min_size, max_size, number of canvases, then height and width of each.
// Returns the canvas of a picture; sets its size there.
int frcnn_place(const int *rule, int height, int width, int *size) {
  frcnn::ResizeRule wanted{static_cast<frcnn::ResizeKind>(rule[0]),
                           static_cast<frcnn::ResizeLike>(rule[1]),
                           rule[2],
                           rule[3],
                           {}};
  for (int i = 0; i < rule[4]; ++i) wanted.canvases.push_back({rule[5 + 2 * i], rule[6 + 2 * i]});
  const auto canvas = wanted.CanvasOf({height, width});
  const auto [rows, columns] = wanted.SizeOn(canvas, {height, width});
  size[0] = rows;
  size[1] = columns;
  return static_cast<int>(canvas);
}

void frcnn_resize_in_floats(const unsigned char *source, const int *sizes, float *target) {
  frcnn::ResizeInFloats(source, {sizes[0], sizes[1]}, {sizes[2], sizes[3]}, target);
}

void frcnn_resize_by_triangles(const unsigned char *source, const int *sizes,
                               unsigned char *target) {
  frcnn::ResizeByTriangles(source, {sizes[0], sizes[1]}, {sizes[2], sizes[3]}, target);
}
}
