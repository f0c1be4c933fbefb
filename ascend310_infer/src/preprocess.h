// SPDX-License-Identifier: Apache-2.0
// Image files -> network inputs, step by step what src/images/ops.py does in Python.
#pragma once

#include <array>
#include <cstdint>
#include <opencv2/core.hpp>
#include <vector>

#include "image_header.h"

namespace frcnn {

// What the network's input looks like.
struct InputFormat {
  int height = 0, width = 0;  // the canvas, pixels
  bool keep_ratio = true;     // scale into the top left corner, pad the rest; else stretch
  bool rgb = true;            // order of the channels that enter the network; else BGR
  bool pad_before_normalize = false;
  std::array<std::array<float, 256>, 3> table{};  // value of an 8-bit pixel in each channel

  void SetStatistics(const std::array<double, 3> &mean, const std::array<double, 3> &std);
};

// Height and width of the valid area; network-input pixels per image pixel.
using ImageMeta = std::array<float, 4>;

// Decodes an image file's bytes to what a viewer shows: 8-bit BGR, rotated by EXIF, on white.
// Throws ImageError, for more than `max_pixels` before anything is decoded.
cv::Mat DecodeImage(const std::vector<unsigned char> &bytes, std::int64_t max_pixels);

// Resizes for the canvas, bilinear, without padding; sets `meta`.
cv::Mat ResizeImage(const cv::Mat &bgr, const InputFormat &format, ImageMeta *meta);

// Writes (3, height, width) floats of a resized picture to `target`.
void NormalizeAndPad(const cv::Mat &bgr, const InputFormat &format, float *target);

}  // namespace frcnn
