// SPDX-License-Identifier: Apache-2.0
// Runs an exported detector over the images of a folder.
#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <opencv2/core/utils/logger.hpp>
#include <string>
#include <tuple>

#include "images.h"
#include "model_card.h"
#include "options.h"
#include "preprocess.h"
#include "results.h"

namespace frcnn {
namespace {

enum ExitCode { kDone = 0, kFailed = 1, kWrongArguments = 2, kSomeImagesFailed = 3 };

// Prints an error as one line: names and libraries' texts may hold anything.
void Complain(const std::string &text) {
  constexpr std::size_t kLongest = 1000;
  std::string line = text.size() > kLongest ? text.substr(0, kLongest) + " ..." : text;
  while (!line.empty() && std::isspace(static_cast<unsigned char>(line.back())) != 0)
    line.pop_back();
  for (char &letter : line)
    if (static_cast<unsigned char>(letter) < ' ' || letter == 0x7f) letter = ' ';
  std::fflush(stdout);
  std::fprintf(stderr, "error: %s\n", line.c_str());
}

double Seconds() {
  using Clock = std::chrono::steady_clock;
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

// Images on their way through the model.
struct Batch {
  explicit Batch(const ModelCard &card) {
    for (const TensorInfo &info : card.signature.inputs) {
      std::size_t size = SizeOf(info.type);
      for (const auto side : info.shape) size *= static_cast<std::size_t>(side);
      inputs.push_back({info, std::vector<unsigned char>(size)});
    }
    image_floats = inputs[0].bytes.size() / sizeof(float) / static_cast<std::size_t>(card.batch);
  }

  struct Item {
    const ImageFile *file;
    int height, width;
  };

  std::vector<Tensor> inputs;  // image, image_meta
  std::size_t image_floats = 0;
  std::vector<Item> items;

  float *Image(std::size_t row) {
    return reinterpret_cast<float *>(inputs[0].bytes.data()) + row * image_floats;
  }
  float *Meta(std::size_t row) {
    return reinterpret_cast<float *>(inputs[1].bytes.data()) + row * std::tuple_size_v<ImageMeta>;
  }
};

class Application {
 public:
  Application(const ModelCard &card, Backend *backend, const ResultFolder &folder,
              std::int64_t max_pixels)
      : card_(card), backend_(backend), folder_(folder), max_pixels_(max_pixels), batch_(card) {}

  // Infers all images; returns how many could not be used.
  int Run(const std::vector<ImageFile> &images) {
    int broken = 0;
    const double started = Seconds();
    for (const ImageFile &image : images) {
      try {
        Add(image);
      } catch (const ImageError &error) {
        Complain("image " + image.path.string() + ": " + error.what());
        ++broken;
      } catch (const std::bad_alloc &) {
        Complain("image " + image.path.string() + ": no memory");
        ++broken;
      } catch (const cv::Exception &error) {
        Complain("image " + image.path.string() + ": " + error.err);
        ++broken;
      }
      if (static_cast<std::int64_t>(batch_.items.size()) == card_.batch) Infer();
    }
    if (!batch_.items.empty()) Infer();
    timing_.total = Seconds() - started;
    return broken;
  }

  const Timing &timing() const { return timing_; }

 private:
  void Add(const ImageFile &image) {
    const cv::Mat picture = DecodeImage(ReadBytes(image.path, max_pixels_), max_pixels_);
    ImageMeta meta;
    const cv::Mat resized = ResizeImage(picture, card_.input, &meta);
    const std::size_t row = batch_.items.size();
    NormalizeAndPad(resized, card_.input, batch_.Image(row));
    std::copy(meta.begin(), meta.end(), batch_.Meta(row));
    batch_.items.push_back({&image, picture.rows, picture.cols});
  }

  void Infer() {
    // The model takes whole batches: the last one is filled up with copies of its first image.
    for (auto row = batch_.items.size(); row < static_cast<std::size_t>(card_.batch); ++row) {
      std::copy(batch_.Image(0), batch_.Image(0) + batch_.image_floats, batch_.Image(row));
      std::copy(batch_.Meta(0), batch_.Meta(0) + std::tuple_size_v<ImageMeta>, batch_.Meta(row));
    }
    const double started = Seconds();
    const std::vector<Tensor> outputs = backend_->Run(batch_.inputs);
    // The first run also prepares memory.
    (timing_.runs == 0 ? timing_.first_run : timing_.later_runs) += Seconds() - started;
    ++timing_.runs;
    CheckOutputs(outputs);
    for (std::size_t row = 0; row < batch_.items.size(); ++row) {
      const auto &item = batch_.items[row];
      folder_.Write(*item.file, item.height, item.width, outputs, static_cast<std::int64_t>(row));
    }
    timing_.images += static_cast<int>(batch_.items.size());
    batch_.items.clear();
  }

  // Results are read as the card says: a library that returns less must not be trusted.
  void CheckOutputs(const std::vector<Tensor> &outputs) const {
    Signature loaded{card_.signature.inputs, {}};
    for (const Tensor &output : outputs) {
      std::size_t size = SizeOf(output.info.type);
      for (const auto side : output.info.shape) size *= static_cast<std::size_t>(side);
      if (size == 0 || size != output.bytes.size())
        throw BackendError("an output of the model has another size than its shape");
      loaded.outputs.push_back(output.info);
    }
    RequireSame(card_.signature, loaded);
  }

  const ModelCard &card_;
  Backend *backend_;
  const ResultFolder &folder_;
  std::int64_t max_pixels_;
  Batch batch_;
  Timing timing_;
};

int Infer(const Options &options) {
  const ModelCard card = ReadModelCard(options.model);
  const auto images = ListImages(options.dataset);
  const auto backend = MakeBackend(options.backend);
  std::printf("model %s: %zu classes, input %d x %d, batch %lld, backend %s\n",
              options.model.c_str(), card.class_names.size(), card.input.width, card.input.height,
              static_cast<long long>(card.batch), options.backend.c_str());
  std::fflush(stdout);
  backend->Load(options.model.c_str(), options.device);
  RequireSame(card.signature, backend->Describe());

  const ResultFolder folder(options.output, card);
  const std::int64_t max_pixels = options.max_pixels > 0 ? options.max_pixels : card.max_pixels;
  Application application(card, backend.get(), folder, max_pixels);
  const int broken = application.Run(images);
  std::printf("%s", folder.WriteTiming(application.timing(), card.batch).c_str());
  if (broken == 0) return kDone;
  Complain(std::to_string(broken) + " of " + std::to_string(images.size()) +
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
  } catch (const BackendError &error) {
    Complain(options.model.string() + ": " + error.what());
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
