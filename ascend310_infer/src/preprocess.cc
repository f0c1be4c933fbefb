// SPDX-License-Identifier: Apache-2.0
#include "preprocess.h"

#include <algorithm>
#include <new>
#include <opencv2/imgcodecs.hpp>
#include <opencv2/imgproc.hpp>

#include "resizing.h"

namespace frcnn {
namespace {

using Bytes = std::vector<unsigned char>;

cv::Mat Decode(const Bytes &bytes, int flags) {
  try {
    return cv::imdecode(bytes, flags);
  } catch (const cv::Exception &) {  // e.g. more pixels than OpenCV accepts
    return {};
  } catch (const std::bad_alloc &) {
    throw ImageError("the picture does not fit into memory");
  }
}

// One of the eight EXIF orientations of a picture.
cv::Mat Oriented(const cv::Mat &picture, int orientation) {
  if (orientation == 0) return picture;
  cv::Mat moved;
  if (orientation < 4) {
    moved = picture.clone();
  } else {
    cv::transpose(picture, moved);
  }
  constexpr int kFlipCodes[4] = {0, 1, -1, 0};  // the first is not used
  const int flip = orientation % 4;
  if (flip != 0) cv::flip(moved, moved, kFlipCodes[flip]);
  return moved;
}

bool SameColours(const cv::Mat &bgra, const cv::Mat &bgr) {
  if (bgra.size() != bgr.size()) return false;
  for (int y = 0; y < bgr.rows; ++y) {
    const auto *with_alpha = bgra.ptr<cv::Vec4b>(y);
    const auto *without = bgr.ptr<cv::Vec3b>(y);
    for (int x = 0; x < bgr.cols; ++x)
      for (int c = 0; c < 3; ++c)
        if (with_alpha[x][c] != without[x][c]) return false;
  }
  return true;
}

// Shows a transparent picture on white. OpenCV gives the alpha channel only without EXIF rotation,
// so the rotation is found by comparing with `picture`, which is rotated but has lost its alpha.
cv::Mat OnWhite(const Bytes &bytes, const ImageHeader &header, const cv::Mat &picture) {
  cv::Mat stored = Decode(bytes, cv::IMREAD_UNCHANGED);
  if (stored.empty() || stored.channels() != 4) return picture;
  if (stored.depth() == CV_16U) {
    cv::Mat narrow(stored.size(), CV_8UC4);
    for (int y = 0; y < stored.rows; ++y) {
      const auto *from = stored.ptr<ushort>(y);
      auto *to = narrow.ptr<uchar>(y);
      for (int i = 0; i < stored.cols * 4; ++i) to[i] = static_cast<uchar>(from[i] >> 8);
    }
    stored = narrow;
  }
  if (stored.depth() != CV_8U) return picture;
  for (int orientation = 0; orientation < 8; ++orientation) {
    const cv::Mat moved = Oriented(stored, orientation);
    if (SameColours(moved, picture)) {
      stored = moved;
      break;
    }
  }
  cv::Mat result(stored.size(), CV_8UC3);
  for (int y = 0; y < stored.rows; ++y) {
    const auto *from = stored.ptr<cv::Vec4b>(y);
    auto *to = result.ptr<cv::Vec3b>(y);
    for (int x = 0; x < stored.cols; ++x) {
      const float alpha = static_cast<float>(from[x][3]) / 255.0F;
      for (int c = 0; c < 3; ++c) {
        const float colour = static_cast<float>(from[x][c]) * (header.premultiplied ? 1.0F : alpha);
        to[x][c] = static_cast<uchar>(std::min(colour + 255.0F * (1.0F - alpha) + 0.5F, 255.0F));
      }
    }
  }
  return result;
}

// Fills a row of the network's input from `pixels` of three channels.
void NormalizeRow(const uchar *pixels, const InputFormat &format, std::size_t channel, int width,
                  float *row) {
  const auto &table = format.table[channel];
  for (int x = 0; x < width; ++x) row[x] = table[pixels[3 * x]];
}

void NormalizeRow(const float *pixels, const InputFormat &format, std::size_t channel, int width,
                  float *row) {
  for (int x = 0; x < width; ++x)
    row[x] = (pixels[3 * x] - format.mean[channel]) / format.std[channel];
}

}  // namespace

void InputFormat::SetStatistics(const std::array<double, 3> &means,
                                const std::array<double, 3> &stds) {
  for (std::size_t channel = 0; channel < 3; ++channel) {
    mean[channel] = static_cast<float>(means[channel]);
    std[channel] = static_cast<float>(stds[channel]);
    for (std::size_t value = 0; value < 256; ++value)
      table[channel][value] =
          static_cast<float>((static_cast<double>(value) - means[channel]) / stds[channel]);
  }
}

cv::Mat DecodeImage(const std::vector<unsigned char> &bytes, std::int64_t max_pixels) {
  const ImageHeader header = ReadImageHeader(bytes);
  CheckCost(header, bytes.size(), max_pixels);
  if (header.animated) return DecodeImage(FirstPicture(bytes), max_pixels);
  const cv::Mat picture = Decode(bytes, cv::IMREAD_COLOR);
  if (picture.empty() || picture.type() != CV_8UC3 ||
      static_cast<std::int64_t>(picture.total()) != header.height * header.width)
    throw ImageError(std::string("its ") + header.kind + " data is damaged, or of an unusual kind");
  return header.transparent ? OnWhite(bytes, header, picture) : picture;
}

cv::Mat ResizeImage(const cv::Mat &bgr, Size size, ResizeLike like, ImageMeta *meta) {
  *meta = {static_cast<float>(size.height), static_cast<float>(size.width),
           static_cast<float>(static_cast<double>(size.height) / bgr.rows),
           static_cast<float>(static_cast<double>(size.width) / bgr.cols)};
  const Size from{bgr.rows, bgr.cols};
  if (size == from) return bgr;
  if (like == ResizeLike::kOpenCv) {
    cv::Mat resized;
    cv::resize(bgr, resized, cv::Size(size.width, size.height), 0, 0, cv::INTER_LINEAR);
    return resized;
  }
  const cv::Mat whole = bgr.isContinuous() ? bgr : bgr.clone();
  if (like == ResizeLike::kTorchvision) {
    cv::Mat resized(size.height, size.width, CV_32FC3);
    ResizeInFloats(whole.ptr<uchar>(), from, size, resized.ptr<float>());
    return resized;
  }
  cv::Mat resized(size.height, size.width, CV_8UC3);
  ResizeByTriangles(whole.ptr<uchar>(), from, size, resized.ptr<uchar>());
  return resized;
}

void NormalizeAndPad(const cv::Mat &bgr, const InputFormat &format, Size canvas, float *target) {
  const std::size_t plane = static_cast<std::size_t>(canvas.height) * canvas.width;
  for (std::size_t channel = 0; channel < 3; ++channel) {
    const std::size_t source = format.rgb ? 2 - channel : channel;
    float *row = target + channel * plane;
    std::fill(row, row + plane, format.pad_before_normalize ? format.table[channel][0] : 0.0F);
    for (int y = 0; y < bgr.rows; ++y, row += canvas.width) {
      if (bgr.depth() == CV_8U)
        NormalizeRow(bgr.ptr<uchar>(y) + source, format, channel, bgr.cols, row);
      else
        NormalizeRow(bgr.ptr<float>(y) + source, format, channel, bgr.cols, row);
    }
  }
}

void CopyAndPad(const cv::Mat &bgr, Size canvas, unsigned char *target) {
  std::fill(target, target + std::size_t{3} * canvas.height * canvas.width, 0);
  cv::Mat whole;
  bgr.convertTo(whole, CV_8U);  // rounds
  for (int y = 0; y < whole.rows; ++y) {
    const uchar *from = whole.ptr<uchar>(y);
    uchar *to = target + std::size_t{3} * y * canvas.width;
    for (int x = 0; x < whole.cols; ++x, from += 3, to += 3)
      for (int c = 0; c < 3; ++c) to[c] = from[2 - c];
  }
}

}  // namespace frcnn
