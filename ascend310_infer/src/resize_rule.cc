// SPDX-License-Identifier: Apache-2.0
#include "resize_rule.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <utility>

namespace frcnn {
namespace {

constexpr double kNearlyAsLarge = 1 - 1e-9;

std::int64_t Area(Size size) { return std::int64_t{size.height} * size.width; }
int Shorter(Size size) { return std::min(size.height, size.width); }
int Longer(Size size) { return std::max(size.height, size.width); }
bool Holds(Size canvas, Size picture) {
  return picture.height <= canvas.height && picture.width <= canvas.width;
}

int Rounded(double side, double half = 0.5) { return std::max(static_cast<int>(side + half), 1); }

Size Fitted(Size picture, Size canvas) {
  const double scale = std::min(static_cast<double>(canvas.height) / picture.height,
                                static_cast<double>(canvas.width) / picture.width);
  return {std::min(Rounded(picture.height * scale), canvas.height),
          std::min(Rounded(picture.width * scale), canvas.width)};
}

// By the shorter side first, then down where the longer one is above its limit, as detectron2 does.
std::pair<double, double> ScaledTwice(Size picture, double min_size, double max_size) {
  const double scale = min_size / Shorter(picture);
  const bool wide = picture.height < picture.width;
  double height = wide ? min_size : scale * picture.height;
  double width = wide ? scale * picture.width : min_size;
  if (std::max(height, width) > max_size) {
    const double again = max_size / std::max(height, width);
    height *= again;
    width *= again;
  }
  return {height, width};
}

Size ShortEdge(Size picture, const ResizeRule &rule) {
  const double min_size = rule.min_size, max_size = rule.max_size;
  if (rule.like == ResizeLike::kDetectron2) {
    const auto [height, width] = ScaledTwice(picture, min_size, max_size);
    return {Rounded(height), Rounded(width)};
  }
  const double scale = std::min(min_size / Shorter(picture), max_size / Longer(picture));
  const double half = rule.like == ResizeLike::kTorchvision ? 0.0 : 0.5;
  return {Rounded(picture.height * scale, half), Rounded(picture.width * scale, half)};
}

// How much stretching changes the aspect ratio.
double Distortion(Size canvas, Size picture) {
  return std::abs(
      std::log(static_cast<double>(canvas.height) / canvas.width * picture.width / picture.height));
}

}  // namespace

std::size_t ResizeRule::CanvasOf(Size picture) const {
  std::vector<double> worse;  // the smaller, the better the canvas
  for (std::size_t i = 0; i < canvases.size(); ++i)
    worse.push_back(kind == ResizeKind::kStretch ? Distortion(canvases[i], picture)
                                                 : -ScaleOn(i, picture));
  const double best = *std::min_element(worse.begin(), worse.end());
  const double limit = kind == ResizeKind::kStretch ? best : best * kNearlyAsLarge;
  std::size_t chosen = canvases.size();
  for (std::size_t i = 0; i < canvases.size(); ++i)
    if (worse[i] <= limit &&
        (chosen == canvases.size() || Area(canvases[i]) < Area(canvases[chosen])))
      chosen = i;
  return chosen;
}

double ResizeRule::ScaleOn(std::size_t canvas, Size picture) const {
  const Size held = canvases[canvas];
  if (kind == ResizeKind::kShortEdge) {
    const Size wanted = ShortEdge(picture, *this);
    if (Holds(held, wanted)) return static_cast<double>(Longer(wanted)) / Longer(picture);
  }
  return std::min({static_cast<double>(held.height) / picture.height,
                   static_cast<double>(held.width) / picture.width,
                   static_cast<double>(Longer(SizeOn(canvas, picture))) / Longer(picture)});
}

Size ResizeRule::SizeOn(std::size_t canvas, Size picture) const {
  const Size held = canvases[canvas];
  if (kind == ResizeKind::kStretch) return held;
  if (kind == ResizeKind::kShortEdge) {
    const Size wanted = ShortEdge(picture, *this);
    if (Holds(held, wanted)) return wanted;
  }
  return Fitted(picture, held);
}

}  // namespace frcnn
