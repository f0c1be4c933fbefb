// SPDX-License-Identifier: Apache-2.0
// Image files -> network inputs, step by step what src/images/ops.py does in Python.
#pragma once

#include <array>
#include <cstdint>
#include <opencv2/core.hpp>
#include <vector>

#include "image_header.h"
#include "resize_rule.h"

namespace frcnn {

// What the network's input looks like.
struct InputFormat {
  ResizeRule rule;  // into the top left corner of a canvas; the rest is padded
  bool rgb = true;  // order of the channels that enter the network; else BGR
  bool pad_before_normalize = false;
  std::array<float, 3> mean{}, std{};             // of each channel, in 0..255 units
  std::array<std::array<float, 256>, 3> table{};  // value of an 8-bit pixel in each channel

  void SetStatistics(const std::array<double, 3> &means, const std::array<double, 3> &stds);
};

// Height and width of the valid area; network-input pixels per image pixel.
using ImageMeta = std::array<float, 4>;

// Decodes an image file's bytes to what a viewer shows: 8-bit BGR, rotated by EXIF, on white.
// Throws ImageError, for more than `max_pixels` before anything is decoded.
cv::Mat DecodeImage(const std::vector<unsigned char> &bytes, std::int64_t max_pixels);

// Resizes an 8-bit picture to `size`, bilinear; sets `meta`. The result has 8 bits, or floats of
// 0..255 as torchvision has them.
cv::Mat ResizeImage(const cv::Mat &bgr, Size size, ResizeLike like, ImageMeta *meta);

// Writes (3, height, width) floats of a canvas with a resized picture to `target`.
void NormalizeAndPad(const cv::Mat &bgr, const InputFormat &format, Size canvas, float *target);

// Writes (height, width, 3) bytes, RGB, of a canvas with a resized picture to `target`; the rest is
// 0.
void CopyAndPad(const cv::Mat &bgr, Size canvas, unsigned char *target);

}  // namespace frcnn
