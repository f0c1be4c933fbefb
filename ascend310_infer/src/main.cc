// SPDX-License-Identifier: Apache-2.0
// Runs an exported detector over the images of a folder.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <new>
#include <tuple>

#include "images.h"
#include "model_card.h"
#include "options.h"
#include "preprocess.h"
#include "results.h"

namespace frcnn {
namespace {

enum ExitCode { kDone = 0, kFailed = 1, kWrongArguments = 2, kSomeImagesFailed = 3 };

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
  Application(const ModelCard &card, Backend *backend, const ResultFolder &folder)
      : card_(card), backend_(backend), folder_(folder), batch_(card) {}

  // Infers all images; returns how many could not be used.
  int Run(const std::vector<ImageFile> &images) {
    int broken = 0;
    const double started = Seconds();
    for (const ImageFile &image : images) {
      try {
        Add(image);
      } catch (const ImageError &error) {
        std::fprintf(stderr, "error: image %s: %s\n", image.path.c_str(), error.what());
        ++broken;
      } catch (const std::bad_alloc &) {
        std::fprintf(stderr, "error: image %s: no memory\n", image.path.c_str());
        ++broken;
      } catch (const cv::Exception &error) {
        std::fprintf(stderr, "error: image %s: %s\n", image.path.c_str(), error.err.c_str());
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
    const cv::Mat picture = DecodeImage(ReadBytes(image.path));
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
  Application application(card, backend.get(), folder);
  const int broken = application.Run(images);
  std::printf("%s", folder.WriteTiming(application.timing(), card.batch).c_str());
  if (broken == 0) return kDone;
  std::fflush(stdout);
  std::fprintf(stderr, "error: %d of %zu images could not be used, see above\n", broken,
               images.size());
  return kSomeImagesFailed;
}

int Main(int count, const char *const *arguments) {
  Options options;
  try {
    options = ParseOptions(count, arguments);
  } catch (const UserError &error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return kWrongArguments;
  }
  if (options.help) {
    std::printf("%s", Usage().c_str());
    return kDone;
  }
  try {
    return Infer(options);
  } catch (const BackendError &error) {
    std::fflush(stdout);
    std::fprintf(stderr, "error: %s: %s\n", options.model.c_str(), error.what());
  } catch (const std::exception &error) {
    std::fflush(stdout);
    std::fprintf(stderr, "error: %s\n", error.what());
  }
  return kFailed;
}

}  // namespace
}  // namespace frcnn

int main(int argc, char **argv) { return frcnn::Main(argc, argv); }
