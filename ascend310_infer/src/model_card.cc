// SPDX-License-Identifier: Apache-2.0
#include "model_card.h"

#include <array>
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

namespace frcnn {
namespace {

using nlohmann::json;
namespace fs = std::filesystem;

constexpr const char *kFormat = "faster_rcnn_model";
constexpr int kVersion = 1;
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
  if (name == "bool") return DataType::kBool;
  return DataType::kOther;
}

// Appends the tensor `name`, which must be the next one and have `rank` dimensions.
void AddTensor(const json &list, const char *name, DataType type, std::size_t rank,
               std::vector<TensorInfo> *infos) {
  const json &entry = list.at(infos->size());
  TensorInfo info{TypeFromName(entry.at("dtype").get<std::string>()),
                  entry.at("shape").get<std::vector<std::int64_t>>()};
  if (entry.at("name").get<std::string>() != name || info.type != type ||
      info.shape.size() != rank) {
    throw std::runtime_error(std::string("the tensor ") + name + " is not as expected");
  }
  infos->push_back(std::move(info));
}

InputFormat ReadInputFormat(const json &values) {
  InputFormat format;
  format.height = values.at("height").get<int>();
  format.width = values.at("width").get<int>();
  if (format.height < 1 || format.width < 1 || format.height > kLargestSide ||
      format.width > kLargestSide) {
    throw std::runtime_error("the canvas has an impossible size");
  }
  format.keep_ratio = values.at("keep_ratio").get<bool>();
  format.pad_before_normalize = values.at("pad_before_normalize").get<bool>();
  const auto order = values.at("channel_order").get<std::string>();
  if (order != "rgb" && order != "bgr") throw std::runtime_error("unknown channel_order");
  format.rgb = order == "rgb";
  const auto std_values = ThreeNumbers(values.at("pixel_std"));
  for (const double value : std_values)
    if (!(value > 0)) throw std::runtime_error("pixel_std is not above 0");
  format.SetStatistics(ThreeNumbers(values.at("pixel_mean")), std_values);
  return format;
}

Signature ReadSignature(const json &card) {
  Signature signature;
  AddTensor(card.at("inputs"), "image", DataType::kFloat32, 4, &signature.inputs);
  AddTensor(card.at("inputs"), "image_meta", DataType::kFloat32, 2, &signature.inputs);
  AddTensor(card.at("outputs"), "boxes", DataType::kFloat32, 3, &signature.outputs);
  AddTensor(card.at("outputs"), "scores", DataType::kFloat32, 2, &signature.outputs);
  AddTensor(card.at("outputs"), "labels", DataType::kInt32, 2, &signature.outputs);
  AddTensor(card.at("outputs"), "valid", DataType::kBool, 2, &signature.outputs);
  return signature;
}

// The shapes must fit together, so that the rest of the program can rely on them.
void CheckShapes(const ModelCard &card) {
  using Shape = std::vector<std::int64_t>;
  const auto batch = card.batch, rows = card.detections;
  const auto &in = card.signature.inputs, &out = card.signature.outputs;
  const std::int64_t side = std::int64_t{3} * card.input.height * card.input.width;
  const bool fits = batch > 0 && batch <= 1024 && rows > 0 && rows <= 1000000 &&
                    batch * side <= kMostInput && batch * rows <= 100000000 &&
                    in[0].shape == Shape{batch, 3, card.input.height, card.input.width} &&
                    in[1].shape == Shape{batch, 4} && out[0].shape == Shape{batch, rows, 4} &&
                    out[1].shape == Shape{batch, rows} && out[2].shape == Shape{batch, rows} &&
                    out[3].shape == Shape{batch, rows};
  if (!fits) throw std::runtime_error("the shapes of inputs and outputs do not fit together");
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

}  // namespace

ModelCard ReadModelCard(const fs::path &model) {
  const fs::path path = model.string() + ".json";
  ModelCard card;
  card.text = ReadText(path);
  try {
    const json values = json::parse(card.text);
    if (values.at("format") != kFormat || values.at("version") != kVersion)
      throw std::runtime_error("not the description of a model by this version");
    card.input = ReadInputFormat(values.at("preprocessing"));
    card.class_names = values.at("class_names").get<std::vector<std::string>>();
    card.signature = ReadSignature(values);
    card.batch = card.signature.inputs[0].shape[0];
    card.detections = card.signature.outputs[0].shape[1];
    CheckShapes(card);
    if (values.contains("max_image_pixels")) {
      card.max_pixels = values["max_image_pixels"].get<std::int64_t>();
      if (card.max_pixels < 1 || card.max_pixels > kMostPixels)
        throw std::runtime_error("max_image_pixels is not from 1 to " +
                                 std::to_string(kMostPixels));
    }
    std::error_code ignored;
    if (values.at("model_bytes").get<std::uintmax_t>() != fs::file_size(model, ignored))
      throw std::runtime_error("it describes another file than " + model.string());
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
