// SPDX-License-Identifier: Apache-2.0
// A loaded model of one canvas.
#pragma once

#include <atomic>
#include <memory>
#include <vector>

#include "backend.h"
#include "model_card.h"
#include "options.h"
#include "preprocess.h"

namespace frcnn {

// A picture as the network takes it.
struct NetworkInput {
  std::vector<unsigned char> image;  // the numbers of the tensor's row
  ImageMeta meta{};
};

class Model {
 public:
  // Loads the file; throws UserError when it cannot be, or is not what its description says.
  Model(const ModelFile &file, const Options &options);

  // Resizes and normalises a picture as `format` says, to `size` on the model's canvas.
  NetworkInput Prepare(const cv::Mat &picture, Size size, const InputFormat &format) const;

  // Runs on 1 to `batch` pictures; the outputs are as the description says. Sets `seconds` to what
  // the run took, and `first` where it was the first one, which also prepares memory. May be called
  // by several threads where the backend allows it.
  std::vector<Tensor> Run(const std::vector<const NetworkInput *> &pictures, double *seconds,
                          bool *first);

  // Bytes of a picture's image.
  std::size_t ImageBytes() const;

 private:
  std::vector<Tensor> Batch(const std::vector<const NetworkInput *> &pictures) const;
  void CheckOutputs(const std::vector<Tensor> &outputs) const;

  const ModelFile &file_;
  std::unique_ptr<Backend> backend_;
  std::atomic<bool> warm_{false};
};

}  // namespace frcnn
