// SPDX-License-Identifier: Apache-2.0
#include "results.h"

#include <cstdio>
#include <cstring>
#include <fstream>
#include <nlohmann/json.hpp>

namespace frcnn {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

void MakeFolder(const fs::path &folder) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) throw UserError("cannot make the folder " + folder.string() + ": " + error.message());
}

// File names need not be UTF-8; what is not becomes a replacement character.
std::string Text(const json &values) {
  return values.dump(1, ' ', false, json::error_handler_t::replace) + "\n";
}

// What was found in an image, best first, for people and programs. `boxes` has five numbers a row,
// `labels` the bytes of an int32.
std::string Detections(const ImageFile &image, int height, int width,
                       const std::vector<float> &boxes, const unsigned char *labels,
                       const unsigned char *valid, const std::vector<std::string> &names) {
  json rows = json::array();
  for (std::size_t i = 0; i < boxes.size() / 5; ++i) {
    if (valid[i] == 0) continue;
    std::int32_t label = 0;
    std::memcpy(&label, labels + i * sizeof label, sizeof label);
    if (label < 1 || static_cast<std::size_t>(label) > names.size())
      throw UserError("the model gives the label " + std::to_string(label) + " of " +
                      std::to_string(names.size()) + " classes; export it again with export.py");
    const float *row = &boxes[i * 5];
    rows.push_back({{"label", label},
                    {"class", names[static_cast<std::size_t>(label) - 1]},
                    {"score", row[4]},
                    {"box", {row[0], row[1], row[2], row[3]}}});
  }
  return Text({{"image", image.path.filename().string()},
               {"height", height},
               {"width", width},
               {"detections", std::move(rows)}});
}

}  // namespace

ResultFolder::ResultFolder(const fs::path &output, const ModelCard &card)
    : results_(output / "result_Files"),
      times_(output / "time_Result"),
      detections_(card.detections),
      class_names_(card.class_names) {
  MakeFolder(results_);
  MakeFolder(times_);
  std::error_code error;
  if (!fs::is_empty(results_, error) || error)
    throw UserError(results_.string() +
                    " holds results already; remove it, or give another "
                    "--output_path");
  WriteFile(results_ / "model.json", card.text.data(), card.text.size());
}

void ResultFolder::WriteFile(const fs::path &path, const void *data, std::size_t size) const {
  const fs::path temporary = path.string() + ".part";
  std::ofstream file(temporary, std::ios::binary | std::ios::trunc);
  file.write(static_cast<const char *>(data), static_cast<std::streamsize>(size));
  file.close();
  std::error_code error;
  if (file) fs::rename(temporary, path, error);
  if (!file || error) {
    fs::remove(temporary, error);
    throw UserError("cannot write " + path.string() + "; is the disk full?");
  }
}

void ResultFolder::Write(const ImageFile &image, int height, int width,
                         const std::vector<Tensor> &outputs, std::int64_t row) const {
  const auto count = static_cast<std::size_t>(detections_);
  const auto first = static_cast<std::size_t>(row) * count;
  std::vector<float> boxes(count * 5);  // x1, y1, x2, y2, score
  for (std::size_t i = 0; i < count; ++i) {
    std::memcpy(&boxes[i * 5], &outputs[0].bytes[(first + i) * 16], 16);
    std::memcpy(&boxes[i * 5 + 4], &outputs[1].bytes[(first + i) * 4], 4);
  }
  const std::string &name = image.result_name;
  const auto path = [&](const std::string &ending) { return results_ / (name + ending); };
  WriteFile(path("_0.bin"), boxes.data(), boxes.size() * sizeof(float));
  WriteFile(path("_1.bin"), &outputs[2].bytes[first * 4], count * 4);
  WriteFile(path("_2.bin"), &outputs[3].bytes[first], count);

  const std::string found = Detections(image, height, width, boxes, &outputs[2].bytes[first * 4],
                                       &outputs[3].bytes[first], class_names_);
  WriteFile(path("_detections.json"), found.data(), found.size());

  json sidecar;
  sidecar["image"] = image.path.filename().string();
  sidecar["height"] = height;
  sidecar["width"] = width;
  sidecar["outputs"] = json::array({{{"file", name + "_0.bin"},
                                     {"dtype", "float32"},
                                     {"shape", {count, 5}},
                                     {"meaning", "x1, y1, x2, y2 in pixels of the image, score"}},
                                    {{"file", name + "_1.bin"},
                                     {"dtype", "int32"},
                                     {"shape", {count}},
                                     {"meaning", "label, from 1"}},
                                    {{"file", name + "_2.bin"},
                                     {"dtype", "bool"},
                                     {"shape", {count}},
                                     {"meaning", "which rows are detections"}}});
  const std::string text = Text(sidecar);
  WriteFile(path("_outputs.json"), text.data(), text.size());  // the last: it says "complete"
}

std::string ResultFolder::WriteTiming(const Timing &timing, std::int64_t batch, int streams) const {
  const double run = timing.later > 0   ? timing.later_runs / timing.later
                     : timing.first > 0 ? timing.first_runs / timing.first
                                        : 0.0;
  char text[512];
  std::snprintf(
      text, sizeof text,
      "NN inference cost average time: %.3f ms of infer_count %d (batch %lld, %d at once, the "
      "first not counted)\n%d images in %.3f s: %.2f images/s with reading, preprocessing and "
      "writing\n",
      run * 1e3, timing.first + timing.later, static_cast<long long>(batch), streams, timing.images,
      timing.total, timing.total > 0 ? timing.images / timing.total : 0.0);
  WriteFile(times_ / "test_perform_static.txt", text, std::strlen(text));
  return text;
}

}  // namespace frcnn
