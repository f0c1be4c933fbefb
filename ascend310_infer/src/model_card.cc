// SPDX-License-Identifier: Apache-2.0
#include "model_card.h"

#include <array>
#include <cmath>
#include <fstream>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <utility>

namespace frcnn {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr const char *kFormat = "faster_rcnn_model";
constexpr int kOneCanvas = 1, kSeveral = 2;  // versions
constexpr std::size_t kMostFiles = 16;
constexpr std::int64_t kAnyBatch = -1;
constexpr int kLargestSide = 1 << 15;
constexpr std::uintmax_t kLargestCard = 1 << 24;            // bytes
constexpr std::int64_t kMostInput = std::int64_t{1} << 31;  // numbers that the model takes at once

[[noreturn]] void Wrong(const fs::path &path, const std::string &what) {
  throw UserError(path.string() + ": " + what + "; export the model again with export.py");
}

std::array<double, 3> ThreeNumbers(const json &values) {
  if (values.size() != 3) throw std::runtime_error("three numbers are expected");
  return {values.at(0).get<double>(), values.at(1).get<double>(), values.at(2).get<double>()};
}

DataType TypeFromName(const std::string &name) {
  if (name == "float32") return DataType::kFloat32;
  if (name == "int32") return DataType::kInt32;
  if (name == "uint8") return DataType::kUint8;
  if (name == "bool") return DataType::kBool;
  return DataType::kOther;
}

// Appends the tensor `name`, which must be the next one and have `rank` dimensions.
void AddTensor(const json &list, const char *name, DataType type, std::size_t rank,
               std::vector<TensorInfo> *infos) {
  const json &entry = list.at(infos->size());
  TensorInfo info{TypeFromName(entry.at("dtype").get<std::string>()), {}};
  for (const json &side : entry.at("shape")) {
    const bool any = info.shape.empty() && (side.is_null() || side.is_string());
    info.shape.push_back(any ? kAnyBatch : side.get<std::int64_t>());
  }
  if (entry.at("name").get<std::string>() != name || info.type != type ||
      info.shape.size() != rank) {
    throw std::runtime_error(std::string("the tensor ") + name + " is not as expected");
  }
  infos->push_back(std::move(info));
}

int Number(const json &values, const char *key) {
  const auto number = values.at(key).get<std::int64_t>();
  if (number < 1 || number > kLargestSide)
    throw std::runtime_error(std::string(key) + " is not from 1 to " +
                             std::to_string(kLargestSide));
  return static_cast<int>(number);
}

Size ReadCanvas(const json &values) { return {Number(values, "height"), Number(values, "width")}; }

// One of the values that a text may have.
template <typename Value>
Value Choice(const json &values, const char *key,
             std::initializer_list<std::pair<const char *, Value>> choices) {
  const auto text = values.at(key).get<std::string>();
  for (const auto &[name, value] : choices)
    if (text == name) return value;
  throw std::runtime_error(std::string("unknown ") + key);
}

// The rule without its canvases.
ResizeRule ReadRule(const json &values, int version) {
  ResizeRule rule;
  if (version == kOneCanvas) {
    if (!values.at("keep_ratio").get<bool>()) rule.kind = ResizeKind::kStretch;
    return rule;
  }
  rule.kind = Choice<ResizeKind>(values, "resize",
                                 {{"canvas", ResizeKind::kCanvas},
                                  {"short_edge", ResizeKind::kShortEdge},
                                  {"stretch", ResizeKind::kStretch}});
  rule.like = Choice<ResizeLike>(values, "resize_like",
                                 {{"opencv", ResizeLike::kOpenCv},
                                  {"torchvision", ResizeLike::kTorchvision},
                                  {"detectron2", ResizeLike::kDetectron2}});
  rule.min_size = Number(values, "min_size");
  rule.max_size = Number(values, "max_size");
  return rule;
}

InputFormat ReadInputFormat(const json &values, int version) {
  InputFormat format;
  format.rule = ReadRule(values, version);
  format.pad_before_normalize = values.at("pad_before_normalize").get<bool>();
  format.rgb = Choice<bool>(values, "channel_order", {{"rgb", true}, {"bgr", false}});
  const auto std_values = ThreeNumbers(values.at("pixel_std"));
  for (const double value : std_values)
    if (!(value > 0)) throw std::runtime_error("pixel_std is not above 0");
  format.SetStatistics(ThreeNumbers(values.at("pixel_mean")), std_values);
  return format;
}

// Of a version-1 card, or of an entry of `files`.
Signature ReadSignature(const json &card) {
  Signature signature;
  const bool bytes = card.at("inputs").at(0).at("dtype") == "uint8";  // normalised in the model
  AddTensor(card.at("inputs"), "image", bytes ? DataType::kUint8 : DataType::kFloat32, 4,
            &signature.inputs);
  AddTensor(card.at("inputs"), "image_meta", DataType::kFloat32, 2, &signature.inputs);
  AddTensor(card.at("outputs"), "boxes", DataType::kFloat32, 3, &signature.outputs);
  AddTensor(card.at("outputs"), "scores", DataType::kFloat32, 2, &signature.outputs);
  AddTensor(card.at("outputs"), "labels", DataType::kInt32, 2, &signature.outputs);
  AddTensor(card.at("outputs"), "valid", DataType::kBool, 2, &signature.outputs);
  return signature;
}

// The shapes must fit together, so that the rest of the program can rely on them.
void CheckShapes(const ModelFile &file, std::int64_t batch, std::int64_t rows) {
  using Shape = std::vector<std::int64_t>;
  const auto &in = file.signature.inputs, &out = file.signature.outputs;
  const Shape planes{batch, 3, file.canvas.height, file.canvas.width};
  const Shape pixels{batch, file.canvas.height, file.canvas.width, 3};
  const Shape &image = in[0].type == DataType::kUint8 ? pixels : planes;
  const std::int64_t side = std::int64_t{3} * file.canvas.height * file.canvas.width;
  const bool fits = batch > 0 && batch <= 1024 && rows > 0 && rows <= 1000000 &&
                    batch * side <= kMostInput && batch * rows <= 100000000 &&
                    in[0].shape == image && in[1].shape == Shape{batch, 4} &&
                    out[0].shape == Shape{batch, rows, 4} && out[1].shape == Shape{batch, rows} &&
                    out[2].shape == Shape{batch, rows} && out[3].shape == Shape{batch, rows};
  if (!fits) throw std::runtime_error("the shapes of inputs and outputs do not fit together");
}

// Whether the files take any number of images, whatever number their shapes show.
bool TakesAnyBatch(const json &card) {
  const auto form = card.find("form");
  return form != card.end() && form->is_object() && form->value("dynamic_batch", false);
}

// Lets a model that takes any number of images take `batch`, and others what they do.
void SetBatch(std::int64_t batch, bool any, ModelCard *card) {
  const std::int64_t own = card->files[0].signature.inputs[0].shape[0];
  if (!any && own != kAnyBatch && batch > 0 && batch != own)
    throw UserError(
        "--batch_size=" + std::to_string(batch) + ": the model takes " + std::to_string(own) +
        " images at once; export it again with --test_batch_size " + std::to_string(batch));
  card->batch = !any && own != kAnyBatch ? own : batch > 0 ? batch : 1;
  for (ModelFile &file : card->files)
    for (auto *infos : {&file.signature.inputs, &file.signature.outputs})
      for (TensorInfo &info : *infos)
        if (any || info.shape[0] == kAnyBatch) info.shape[0] = card->batch;
}

void CheckSize(const fs::path &file, const json &size) {
  std::error_code error;
  const auto found = fs::file_size(file, error);
  if (error) throw std::runtime_error("there is no file " + file.string());
  if (size.get<std::uintmax_t>() != found)
    throw std::runtime_error("it describes another file than " + file.string());
}

// The file of a version-1 card.
ModelFile ReadOnlyFile(const json &card, const fs::path &path) {
  CheckSize(path, card.at("model_bytes"));
  return {path, ReadCanvas(card.at("preprocessing")), ReadSignature(card)};
}

// An entry of `files`; they are in `folder`.
ModelFile ReadFile(const json &entry, const fs::path &folder) {
  const fs::path name = entry.at("name").get<std::string>();
  if (name.empty() || name != name.filename() || name == "." || name == "..")
    throw std::runtime_error("a file's name has a folder");
  CheckSize(folder / name, entry.at("bytes"));
  return {folder / name, ReadCanvas(entry), ReadSignature(entry)};
}

std::vector<ModelFile> ReadFiles(const json &card, const fs::path &path) {
  if (card.at("version") == kOneCanvas)
    return {ReadOnlyFile(card, fs::path(path).replace_extension())};
  const json &entries = card.at("files");
  if (!entries.is_array() || entries.empty() || entries.size() > kMostFiles)
    throw std::runtime_error("files is not a list of 1 to " + std::to_string(kMostFiles));
  std::vector<ModelFile> files;
  for (const json &entry : entries) files.push_back(ReadFile(entry, path.parent_path()));
  for (std::size_t i = 0; i < files.size(); ++i)
    for (std::size_t j = 0; j < i; ++j)
      if (files[i].canvas == files[j].canvas) throw std::runtime_error("files has a canvas twice");
  return files;
}

std::string ReadText(const fs::path &path) {
  std::error_code error;
  if (fs::is_regular_file(path, error)) {  // a pipe might never end
    const auto size = fs::file_size(path, error);
    if (!error && size > kLargestCard) Wrong(path, "has " + std::to_string(size) + " bytes");
    std::string text(error ? 0 : size, '\0');
    std::ifstream file(path, std::ios::binary);
    if (file.read(text.data(), static_cast<std::streamsize>(text.size()))) return text;
  }
  throw UserError(path.string() + ": cannot be read; export.py writes it beside the model");
}

// NAME of NAME_800x1344, or nothing.
std::string WithoutCanvas(const std::string &name) {
  constexpr const char *kDigits = "0123456789";
  const auto by = name.find_last_not_of(kDigits);
  if (by == std::string::npos || by == 0 || name[by] != 'x' || by + 1 == name.size()) return "";
  const auto line = name.find_last_not_of(kDigits, by - 1);
  if (line == std::string::npos || name[line] != '_' || line + 1 == by) return "";
  return name.substr(0, line);
}

// The description of what the user named as the model.
fs::path CardPath(const fs::path &model) {
  if (model.extension() == ".json") return model;
  const fs::path own = model.string() + ".json";
  std::error_code ignored;
  if (fs::exists(own, ignored)) return own;
  // NAME_800x1344.onnx is one of several files; NAME.onnx.json describes all of them.
  const std::string name = WithoutCanvas(model.stem().string());
  fs::path all = model;
  all.replace_filename(name + model.extension().string() + ".json");
  return !name.empty() && fs::exists(all, ignored) ? all : own;
}

}  // namespace

ModelCard ReadModelCard(const fs::path &model, std::int64_t batch) {
  const fs::path path = CardPath(model);
  ModelCard card;
  card.text = ReadText(path);
  try {
    const json values = json::parse(card.text);
    const json &version = values.at("version");
    if (values.at("format") != kFormat || (version != kOneCanvas && version != kSeveral))
      throw std::runtime_error("not the description of a model by this version");
    card.input = ReadInputFormat(values.at("preprocessing"), version.get<int>());
    card.class_names = values.at("class_names").get<std::vector<std::string>>();
    card.files = ReadFiles(values, path);
    SetBatch(batch, TakesAnyBatch(values), &card);
    card.detections = card.files[0].signature.outputs[0].shape[1];
    for (const ModelFile &file : card.files) {
      CheckShapes(file, card.batch, card.detections);
      card.input.rule.canvases.push_back(file.canvas);
    }
    if (values.contains("max_image_pixels")) {
      card.max_pixels = values["max_image_pixels"].get<std::int64_t>();
      if (card.max_pixels < 1 || card.max_pixels > kMostPixels)
        throw std::runtime_error("max_image_pixels is not from 1 to " +
                                 std::to_string(kMostPixels));
    }
  } catch (const UserError &) {
    throw;
  } catch (const std::exception &error) {
    Wrong(path, error.what());
  }
  return card;
}

void RequireSame(const Signature &promised, const Signature &loaded) {
  const auto compare = [](const std::vector<TensorInfo> &want, const std::vector<TensorInfo> &have,
                          const char *what) {
    if (want.size() != have.size())
      throw UserError(std::string("the model has ") + std::to_string(have.size()) + " " + what +
                      " instead of " + std::to_string(want.size()));
    for (std::size_t i = 0; i < want.size(); ++i) {
      bool known = !have[i].shape.empty();
      for (const auto size : have[i].shape) known = known && size > 0;
      if (want[i].type != have[i].type || (known && want[i].shape != have[i].shape))
        throw UserError(std::string("the model's ") + what + " are not those of its .json file");
    }
  };
  compare(promised.inputs, loaded.inputs, "inputs");
  compare(promised.outputs, loaded.outputs, "outputs");
}

}  // namespace frcnn
