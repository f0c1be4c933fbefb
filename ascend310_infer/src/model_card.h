// SPDX-License-Identifier: Apache-2.0
// The JSON file beside a model, which export.py writes (docs/deployment.md).
#pragma once

#include <filesystem>
#include <stdexcept>
#include <string>
#include <vector>

#include "backend.h"
#include "preprocess.h"

namespace frcnn {

constexpr int kUsualPixels = 200000000, kMostPixels = 1 << 30;

// Something that the user gave cannot work; the text says what and what to do.
class UserError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct ModelCard {
  InputFormat input;
  std::vector<std::string> class_names;    // of labels 1, 2, ...
  std::int64_t batch = 0;                  // images that the model takes at once
  std::int64_t detections = 0;             // rows that it returns for an image
  std::int64_t max_pixels = kUsualPixels;  // of an image; larger ones are not decoded
  Signature signature;                     // boxes, scores, labels, valid; image, image_meta
  std::string text;                        // the file itself
};

// Reads <model>.json and checks that it belongs to the model file.
ModelCard ReadModelCard(const std::filesystem::path &model);

// Checks that the loaded model has the tensors that its card promises.
void RequireSame(const Signature &promised, const Signature &loaded);

}  // namespace frcnn
