// SPDX-License-Identifier: Apache-2.0
// Runs an exported detector over the images of a folder.
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <exception>
#include <new>
#include <opencv2/core/utils/logger.hpp>
#include <string>

#include "console.h"
#include "images.h"
#include "model.h"
#include "model_card.h"
#include "options.h"
#include "pipeline.h"
#include "results.h"

namespace frcnn {
namespace {

enum ExitCode { kDone = 0, kFailed = 1, kWrongArguments = 2, kSomeImagesFailed = 3 };

int Infer(const Options &options) {
  const ModelCard card = ReadModelCard(options.model, options.batch);
  const auto images = ListImages(options.dataset);
  std::deque<Model> models;  // all at once: what cannot be loaded is said before the first image
  for (const ModelFile &file : card.files) {
    std::printf("model %s: %zu classes, input %d x %d, batch %lld, backend %s\n", file.path.c_str(),
                card.class_names.size(), file.canvas.width, file.canvas.height,
                static_cast<long long>(card.batch), options.backend.c_str());
    std::fflush(stdout);
    models.emplace_back(file, options);
  }

  const ResultFolder folder(options.output, card);
  const Inferred inferred = InferAll(card, &models, folder, images, options);
  std::printf("%s", folder.WriteTiming(inferred.timing, card.batch, options.streams).c_str());
  if (inferred.broken == 0) return kDone;
  Complain(std::to_string(inferred.broken) + " of " + std::to_string(images.size()) +
           " images could not be used, see above");
  return kSomeImagesFailed;
}

int Main(int count, const char *const *arguments) {
  Options options;
  try {
    options = ParseOptions(count, arguments);
  } catch (const UserError &error) {
    Complain(error.what());
    return kWrongArguments;
  }
  if (options.help) {
    std::printf("%s", Usage().c_str());
    return kDone;
  }
  // A damaged picture is said once, not by OpenCV too.
  if (std::getenv("OPENCV_LOG_LEVEL") == nullptr)
    cv::utils::logging::setLogLevel(cv::utils::logging::LOG_LEVEL_SILENT);
  try {
    return Infer(options);
  } catch (const std::bad_alloc &) {
    Complain(options.model.string() + ": there is not enough memory for this model");
  } catch (const std::exception &error) {
    Complain(error.what());
  }
  return kFailed;
}

}  // namespace
}  // namespace frcnn

int main(int argc, char **argv) { return frcnn::Main(argc, argv); }
