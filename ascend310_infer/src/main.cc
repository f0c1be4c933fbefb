// SPDX-License-Identifier: Apache-2.0
// Runs an exported detector over the images of a folder.
#include <algorithm>
#include <cctype>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <new>
#include <opencv2/core/utils/logger.hpp>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

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

std::size_t BytesOf(const TensorInfo &info) {
  std::size_t size = SizeOf(info.type);
  for (const auto side : info.shape) size *= static_cast<std::size_t>(side);
  return size;
}

// A loaded model of one canvas, and the images on their way through it.
class Lane {
 public:
  Lane(const ModelFile &file, const Options &options)
      : file_(file), backend_(MakeBackend(options.backend)) {
    try {
      backend_->Load(file.path.c_str(), options.device);
      RequireSame(file.signature, backend_->Describe());
    } catch (const std::bad_alloc &) {
      throw UserError(file.path.string() + ": there is not enough memory for this model");
    } catch (const std::runtime_error &error) {
      throw UserError(file.path.string() + ": " + error.what());
    }
  }

  struct Item {
    const ImageFile *file;
    int height, width;
  };

  std::int64_t batch() const { return file_.signature.inputs[0].shape[0]; }
  const std::vector<Item> &items() const { return items_; }
  bool full() const { return static_cast<std::int64_t>(items_.size()) == batch(); }

  // Adds an image, preprocessed as `format` says.
  void Add(const ImageFile &image, const cv::Mat &picture, Size size, const InputFormat &format) {
    if (inputs_.empty())  // a canvas that no image goes onto takes no memory
      for (const TensorInfo &info : file_.signature.inputs)
        inputs_.push_back({info, std::vector<unsigned char>(BytesOf(info))});
    ImageMeta meta;
    const cv::Mat resized = ResizeImage(picture, size, format.rule.like, &meta);
    NormalizeAndPad(resized, format, file_.canvas, Row(0, items_.size()));
    std::copy(meta.begin(), meta.end(), Row(1, items_.size()));
    items_.push_back({&image, picture.rows, picture.cols});
  }

  // Runs the model on what has been added; the outputs are as the card says.
  std::vector<Tensor> Run(Timing *timing) {
    try {
      return RunBatch(timing);
    } catch (const BackendError &error) {
      throw UserError(file_.path.string() + ": " + error.what());
    }
  }

  void Clear() { items_.clear(); }

 private:
  std::vector<Tensor> RunBatch(Timing *timing) {
    // The model takes whole batches: the last one is filled up with copies of its first image.
    for (auto row = items_.size(); row < static_cast<std::size_t>(batch()); ++row)
      for (std::size_t i = 0; i < inputs_.size(); ++i) std::copy(Row(i, 0), Row(i, 1), Row(i, row));
    const double started = Seconds();
    std::vector<Tensor> outputs = backend_->Run(inputs_);
    // The first run also prepares memory.
    (warm_ ? timing->later_runs : timing->first_runs) += Seconds() - started;
    ++(warm_ ? timing->later : timing->first);
    warm_ = true;
    timing->images += static_cast<int>(items_.size());
    CheckOutputs(outputs);
    return outputs;
  }

  // Where the numbers of an image begin in an input.
  float *Row(std::size_t input, std::size_t row) {
    auto &bytes = inputs_[input].bytes;
    const auto step = bytes.size() / static_cast<std::size_t>(batch());
    return reinterpret_cast<float *>(bytes.data() + row * step);
  }

  // Results are read as the card says: a library that returns less must not be trusted.
  void CheckOutputs(const std::vector<Tensor> &outputs) const {
    Signature loaded{file_.signature.inputs, {}};
    for (const Tensor &output : outputs) {
      const auto size = BytesOf(output.info);
      if (size == 0 || size != output.bytes.size())
        throw BackendError("an output of the model has another size than its shape");
      loaded.outputs.push_back(output.info);
    }
    RequireSame(file_.signature, loaded);
  }

  const ModelFile &file_;
  std::unique_ptr<Backend> backend_;
  std::vector<Tensor> inputs_;  // image, image_meta
  std::vector<Item> items_;
  bool warm_ = false;
};

class Application {
 public:
  Application(const ModelCard &card, std::vector<Lane> *lanes, const ResultFolder &folder,
              std::int64_t max_pixels)
      : input_(card.input), lanes_(*lanes), folder_(folder), max_pixels_(max_pixels) {}

  // Infers all images, in batches of one canvas; returns how many could not be used.
  int Run(const std::vector<ImageFile> &images) {
    int broken = 0;
    const double started = Seconds();
    for (const ImageFile &image : images) {
      Lane *lane = nullptr;
      try {
        lane = &Add(image);
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
      if (lane != nullptr && lane->full()) Infer(lane);
    }
    for (Lane &lane : lanes_)
      if (!lane.items().empty()) Infer(&lane);
    timing_.total = Seconds() - started;
    return broken;
  }

  const Timing &timing() const { return timing_; }

 private:
  Lane &Add(const ImageFile &image) {
    const cv::Mat picture = DecodeImage(ReadBytes(image.path, max_pixels_), max_pixels_);
    const Size size{picture.rows, picture.cols};
    const std::size_t canvas = input_.rule.CanvasOf(size);
    lanes_[canvas].Add(image, picture, input_.rule.SizeOn(canvas, size), input_);
    return lanes_[canvas];
  }

  void Infer(Lane *lane) {
    const std::vector<Tensor> outputs = lane->Run(&timing_);
    std::int64_t row = 0;
    for (const auto &item : lane->items())
      folder_.Write(*item.file, item.height, item.width, outputs, row++);
    lane->Clear();
  }

  const InputFormat &input_;
  std::vector<Lane> &lanes_;
  const ResultFolder &folder_;
  std::int64_t max_pixels_;
  Timing timing_;
};

int Infer(const Options &options) {
  const ModelCard card = ReadModelCard(options.model);
  const auto images = ListImages(options.dataset);
  std::vector<Lane> lanes;  // all at once: what cannot be loaded is said before the first image
  for (const ModelFile &file : card.files) {
    std::printf("model %s: %zu classes, input %d x %d, batch %lld, backend %s\n", file.path.c_str(),
                card.class_names.size(), file.canvas.width, file.canvas.height,
                static_cast<long long>(card.batch), options.backend.c_str());
    std::fflush(stdout);
    lanes.emplace_back(file, options);
  }

  const ResultFolder folder(options.output, card);
  const std::int64_t max_pixels = options.max_pixels > 0 ? options.max_pixels : card.max_pixels;
  Application application(card, &lanes, folder, max_pixels);
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
