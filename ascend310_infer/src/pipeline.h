// SPDX-License-Identifier: Apache-2.0
// From image files to result files: decoding, inference and writing at the same time.
#pragma once

#include <deque>
#include <vector>

#include "images.h"
#include "model.h"
#include "model_card.h"
#include "options.h"
#include "results.h"

namespace frcnn {

struct Inferred {
  std::size_t broken = 0;  // images that could not be used
  Timing timing;
};

// Infers all images, in batches of one canvas in the order of `images`, and writes their results.
// Images that cannot be used are said and counted. Throws UserError for what keeps the others from
// being inferred. `models` has one for each canvas of the card.
Inferred InferAll(const ModelCard &card, std::deque<Model> *models, const ResultFolder &folder,
                  const std::vector<ImageFile> &images, const Options &options);

}  // namespace frcnn
