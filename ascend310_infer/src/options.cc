// SPDX-License-Identifier: Apache-2.0
#include "options.h"

#include <algorithm>
#include <charconv>
#include <map>
#include <optional>
#include <thread>

#include "model_card.h"

namespace frcnn {
namespace {

constexpr const char *kOnnxRuntime = "onnxruntime";
constexpr const char *kMindSporeLite = "mindspore_lite";
constexpr int kMostStreams = 64, kUsualStreams = 4, kMostBatch = 1024;
constexpr int kMostThreads = 1024, kHighestDevice = 1023;

int ToNumber(const std::string &key, const std::string &text, int highest) {
  int number = -1;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size() || number < 0 || number > highest)
    throw UserError("--" + key + "=" + text + " is not a number from 0 to " +
                    std::to_string(highest));
  return number;
}

std::map<std::string, std::string> Split(int count, const char *const *arguments) {
  std::map<std::string, std::string> values{
      {"mindir_path", ""},  {"dataset_path", ""}, {"device_id", "0"}, {"device_target", ""},
      {"output_path", "."}, {"backend", ""},      {"threads", "0"},   {"max_image_pixels", "0"},
      {"batch_size", "0"},  {"streams", "0"}};
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    const auto equals = argument.find('=');
    const bool option = argument.rfind("--", 0) == 0 && equals != std::string::npos;
    const auto found = option ? values.find(argument.substr(2, equals - 2)) : values.end();
    if (found == values.end())
      throw UserError("'" + argument + "' is no argument; write --key=value, see --help");
    found->second = argument.substr(equals + 1);
  }
  return values;
}

std::string BackendOf(const std::string &given, std::filesystem::path model) {
  if (model.extension() == ".json") model.replace_extension();
  if (given.empty()) return model.extension() == ".onnx" ? kOnnxRuntime : kMindSporeLite;
  if (given != kOnnxRuntime && given != kMindSporeLite)
    throw UserError("--backend=" + given + " is none of " + kOnnxRuntime + ", " + kMindSporeLite);
  return given;
}

bool WantsAscend(const std::string &given, const std::string &backend) {
  if (given.empty()) return backend == kMindSporeLite;
  if (given != "Ascend" && given != "CPU")
    throw UserError("--device_target=" + given + " is none of Ascend, CPU");
  if (given == "Ascend" && backend == kOnnxRuntime)
    throw UserError(
        "--device_target=Ascend: the backend onnxruntime runs on the CPU only; give a "
        ".mindir model and --backend=mindspore_lite");
  return given == "Ascend";
}

// How many batches are inferred at once, each on its share of the processors. One where the threads
// of a batch are given, and with MindSpore Lite, which takes one after the other.
void SetStreams(const std::string &given, Options *options) {
  const int wanted = ToNumber("streams", given, kMostStreams);
  const bool several = options->backend == kOnnxRuntime;
  if (wanted > 1 && !several)
    throw UserError("--streams=" + given + ": the backend " + options->backend +
                    " takes one batch after the other");
  options->streams = wanted;
  if (wanted > 0) return;
  options->streams = 1;
  if (!several || options->device.threads > 0) return;
  const int processors = static_cast<int>(std::thread::hardware_concurrency());
  options->streams = std::clamp(processors, 1, kUsualStreams);
  options->device.threads = std::max(1, processors / options->streams);
}

}  // namespace

std::string Usage() {
  return "Usage: main --mindir_path=FILE --dataset_path=FOLDER [--device_id=N]\n"
         "            [--device_target=Ascend|CPU] [--output_path=FOLDER]\n"
         "            [--backend=mindspore_lite|onnxruntime] [--threads=N]\n"
         "            [--batch_size=N] [--streams=N] [--max_image_pixels=N]\n"
         "  mindir_path    the model (.mindir or .onnx); export.py writes it and <file>.json. One\n"
         "                 of several canvases: <file>.json, or any of the files it lists\n"
         "  dataset_path   folder with the images\n"
         "  device_id      number of the Ascend device (default: 0)\n"
         "  device_target  default: Ascend with mindspore_lite, CPU with onnxruntime\n"
         "  output_path    gets result_Files/ and time_Result/ (default: the current folder)\n"
         "  backend        default: onnxruntime for .onnx, else mindspore_lite\n"
         "  threads        of the CPU for a batch; 0: the library's choice (default)\n"
         "  batch_size     images at once, for a model that takes any number (default: 1); that "
         "of\n"
         "                 other models is fixed\n"
         "  streams        batches at once, onnxruntime only; 0: one, or without --threads as "
         "many\n"
         "                 as there are processors, at most 4 (default)\n"
         "  max_image_pixels  larger images are not decoded; 0: as <file>.json says (default)\n"
         "Exit codes: 0 done; 1 the model cannot be loaded or run, or nothing can be written;\n"
         "2 wrong arguments; 3 done, but some images could not be used.\n";
}

Options ParseOptions(int count, const char *const *arguments) {
  Options options;
  for (int i = 1; i < count; ++i) {
    const std::string argument = arguments[i];
    if (argument == "--help" || argument == "-h") options.help = true;
  }
  if (options.help) return options;
  const auto values = Split(count, arguments);
  options.model = values.at("mindir_path");
  options.dataset = values.at("dataset_path");
  options.output = values.at("output_path");
  if (options.model.empty()) throw UserError("--mindir_path=FILE is missing, see --help");
  if (options.dataset.empty()) throw UserError("--dataset_path=FOLDER is missing, see --help");
  if (options.output.empty()) throw UserError("--output_path= is empty");
  options.backend = BackendOf(values.at("backend"), options.model);
  options.device.ascend = WantsAscend(values.at("device_target"), options.backend);
  options.device.id =
      static_cast<std::uint32_t>(ToNumber("device_id", values.at("device_id"), kHighestDevice));
  options.device.threads = ToNumber("threads", values.at("threads"), kMostThreads);
  options.batch = ToNumber("batch_size", values.at("batch_size"), kMostBatch);
  SetStreams(values.at("streams"), &options);
  options.max_pixels = ToNumber("max_image_pixels", values.at("max_image_pixels"), kMostPixels);
  return options;
}

std::unique_ptr<Backend> MakeBackend(const std::string &name) {
#ifdef FRCNN_WITH_ONNXRUNTIME
  if (name == kOnnxRuntime) return MakeOnnxRuntimeBackend();
#endif
#ifdef FRCNN_WITH_MINDSPORE_LITE
  if (name == kMindSporeLite) return MakeMindSporeLiteBackend();
#endif
  throw UserError("this program was built without the backend " + name + "; run build.sh " + name);
}

}  // namespace frcnn
