// SPDX-License-Identifier: Apache-2.0
#include "pipeline.h"

#include <algorithm>
#include <exception>
#include <functional>
#include <mutex>
#include <new>
#include <opencv2/core.hpp>
#include <string>
#include <thread>
#include <utility>

#include "console.h"
#include "queues.h"

namespace frcnn {
namespace {

constexpr std::size_t kMostDecoders = 8;

// An image on its way.
struct Item {
  const ImageFile *file = nullptr;
  Size size{};  // of the picture
  std::size_t canvas = 0;
  NetworkInput input;
  std::string problem;  // why it cannot be used
};

// Images of one canvas, with what was found in them once they have been inferred.
struct Batch {
  std::vector<Item> items;
  std::vector<Tensor> outputs;
};

class Pipeline {
 public:
  Pipeline(const ModelCard &card, std::deque<Model> *models, const ResultFolder &folder,
           const std::vector<ImageFile> &images, const Options &options)
      : card_(card),
        models_(*models),
        folder_(folder),
        images_(images),
        max_pixels_(options.max_pixels > 0 ? options.max_pixels : card.max_pixels),
        decoders_(std::clamp<std::size_t>(std::thread::hardware_concurrency(), 1, kMostDecoders)),
        streams_(static_cast<std::size_t>(options.streams)),
        progress_(images.size()),
        // Room for the batches that are next.
        decoded_(images.size(), decoders_ + streams_ * static_cast<std::size_t>(card.batch)),
        batches_(streams_),
        inferred_(streams_) {}

  Inferred Run() {
    // Many images at once take the place of many threads for one.
    if (decoders_ > 1) cv::setNumThreads(1);
    const double started = Seconds();
    std::vector<std::thread> decoders, streams, writer;
    try {
      Start(decoders_, &Pipeline::Decode, &decoders);
      Start(streams_, &Pipeline::Infer, &streams);
      Start(1, &Pipeline::Write, &writer);
    } catch (const std::exception &) {  // the system gives no more threads
      Fail();
    }
    Guarded(&Pipeline::Assemble);
    batches_.Close();
    Join(&decoders);
    Join(&streams);
    inferred_.Close();
    Join(&writer);
    if (failure_) std::rethrow_exception(failure_);
    result_.timing.total = Seconds() - started;
    return result_;
  }

 private:
  using Step = void (Pipeline::*)();

  void Start(std::size_t count, Step step, std::vector<std::thread> *threads) {
    for (std::size_t i = 0; i < count; ++i) threads->emplace_back([this, step] { Guarded(step); });
  }

  static void Join(std::vector<std::thread> *threads) {
    for (std::thread &thread : *threads) thread.join();
  }

  // What one step throws ends all of them.
  void Guarded(Step step) {
    try {
      (this->*step)();
    } catch (...) {
      Fail();
    }
  }

  // Within a catch.
  void Fail() {
    const std::lock_guard<std::mutex> lock(mutex_);
    if (!failure_) failure_ = std::current_exception();
    decoded_.Cancel();
    batches_.Cancel();
    inferred_.Cancel();
  }

  void Decode() {
    while (const auto task = decoded_.Claim()) decoded_.Put(*task, Prepared(images_[*task]));
  }

  Item Prepared(const ImageFile &image) const {
    Item item;
    item.file = &image;
    try {
      const cv::Mat picture = DecodeImage(ReadBytes(image.path, max_pixels_), max_pixels_);
      const ResizeRule &rule = card_.input.rule;
      item.size = {picture.rows, picture.cols};
      item.canvas = rule.CanvasOf(item.size);
      const Size on_canvas = rule.SizeOn(item.canvas, item.size);
      item.input = models_[item.canvas].Prepare(picture, on_canvas, card_.input);
    } catch (const ImageError &error) {
      item.problem = error.what();
    } catch (const std::bad_alloc &) {
      item.problem = "no memory";
    } catch (const cv::Exception &error) {
      item.problem = error.err;
    }
    return item;
  }

  void Assemble() {
    std::vector<Batch> waiting(models_.size());
    while (auto item = decoded_.Take()) {
      if (!item->problem.empty()) {
        Complain("image " + item->file->path.string() + ": " + item->problem);
        ++result_.broken;
        progress_.Advance(1);
        continue;
      }
      Batch &batch = waiting[item->canvas];
      batch.items.push_back(std::move(*item));
      if (static_cast<std::int64_t>(batch.items.size()) < card_.batch) continue;
      if (!batches_.Push(std::exchange(batch, {}))) return;
    }
    for (Batch &batch : waiting)
      if (!batch.items.empty() && !batches_.Push(std::move(batch))) return;
  }

  void Infer() {
    while (auto batch = batches_.Pop()) {
      std::vector<const NetworkInput *> pictures;
      for (const Item &item : batch->items) pictures.push_back(&item.input);
      double seconds = 0;
      bool first = false;
      batch->outputs = models_[batch->items[0].canvas].Run(pictures, &seconds, &first);
      for (Item &item : batch->items) item.input = {};
      Count(batch->items.size(), seconds, first);
      if (!inferred_.Push(std::move(*batch))) return;
    }
  }

  void Count(std::size_t images, double seconds, bool first) {
    const std::lock_guard<std::mutex> lock(mutex_);
    Timing &timing = result_.timing;
    (first ? timing.first_runs : timing.later_runs) += seconds;
    ++(first ? timing.first : timing.later);
    timing.images += static_cast<int>(images);
  }

  void Write() {
    while (const auto batch = inferred_.Pop()) {
      std::int64_t row = 0;
      for (const Item &item : batch->items)
        folder_.Write(*item.file, item.size.height, item.size.width, batch->outputs, row++);
      progress_.Advance(batch->items.size());
    }
  }

  const ModelCard &card_;
  std::deque<Model> &models_;
  const ResultFolder &folder_;
  const std::vector<ImageFile> &images_;
  const std::int64_t max_pixels_;
  const std::size_t decoders_, streams_;
  Progress progress_;
  OrderedTasks<Item> decoded_;
  BoundedQueue<Batch> batches_, inferred_;
  std::mutex mutex_;  // of the failure and the timing
  std::exception_ptr failure_;
  Inferred result_;
};

}  // namespace

Inferred InferAll(const ModelCard &card, std::deque<Model> *models, const ResultFolder &folder,
                  const std::vector<ImageFile> &images, const Options &options) {
  return Pipeline(card, models, folder, images, options).Run();
}

}  // namespace frcnn
