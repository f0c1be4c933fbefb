// SPDX-License-Identifier: Apache-2.0
// The result files, which postprocess.py reads.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "backend.h"
#include "images.h"
#include "model_card.h"

namespace frcnn {

struct Timing {
  int images = 0;                         // that were inferred
  int first = 0, later = 0;               // runs of the models, the first of each by itself
  double first_runs = 0, later_runs = 0;  // seconds in the models
  double total = 0;  // seconds from the first image's reading to the last result
};

class ResultFolder {
 public:
  // Makes result_Files/ and time_Result/ in `output`; throws UserError when there are results
  // already, which would be mixed with the new ones.
  ResultFolder(const std::filesystem::path &output, const ModelCard &card);

  // Writes <name>_{0,1,2}.bin, <name>_detections.json and <name>_outputs.json of row `row` of a
  // batch. One thread at a time for an image.
  void Write(const ImageFile &image, int height, int width, const std::vector<Tensor> &outputs,
             std::int64_t row) const;

  // Writes time_Result/test_perform_static.txt and returns its text.
  std::string WriteTiming(const Timing &timing, std::int64_t batch, int streams) const;

 private:
  void WriteFile(const std::filesystem::path &path, const void *data, std::size_t size) const;

  std::filesystem::path results_, times_;
  std::int64_t detections_;
  std::vector<std::string> class_names_;
};

}  // namespace frcnn
