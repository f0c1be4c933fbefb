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

// A model file, which takes pictures on one canvas.
struct ModelFile {
  std::filesystem::path path;
  Size canvas;
  Signature signature;  // image, image_meta; boxes, scores, labels, valid
};

struct ModelCard {
  InputFormat input;
  std::vector<std::string> class_names;    // of labels 1, 2, ...
  std::int64_t batch = 0;                  // images that a model takes at once
  std::int64_t detections = 0;             // rows that it returns for an image
  std::int64_t max_pixels = kUsualPixels;  // of an image; larger ones are not decoded
  std::vector<ModelFile> files;            // one for each canvas of the resize rule
  std::string text;                        // the description itself
};

// Reads the description of a model and checks that it belongs to the files. `model` is NAME.onnx
// (or .mindir), NAME.onnx.json, or one of the files of several canvases, NAME_800x1344.onnx.
// `batch` is how many images go in at once; 0 leaves it to the description, or is 1 where any
// number goes.
ModelCard ReadModelCard(const std::filesystem::path &model, std::int64_t batch = 0);

// Checks that a loaded model has the tensors that its card promises.
void RequireSame(const Signature &promised, const Signature &loaded);

}  // namespace frcnn
