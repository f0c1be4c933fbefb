// SPDX-License-Identifier: Apache-2.0
// The command line.
#pragma once

#include <filesystem>
#include <string>

#include "backend.h"

namespace frcnn {

struct Options {
  std::filesystem::path model;
  std::filesystem::path dataset;
  std::filesystem::path output = ".";
  std::string backend;  // onnxruntime or mindspore_lite
  Device device;
  std::int64_t batch = 0;       // images that the model takes at once; 0: as its description says
  int streams = 1;              // batches that are inferred at the same time
  std::int64_t max_pixels = 0;  // of an image; 0: what the model's description says
  bool help = false;
};

// Text for --help.
std::string Usage();

// Reads the arguments; throws UserError for what cannot be.
Options ParseOptions(int count, const char *const *arguments);

// Makes the backend of a name; throws UserError when the program was built without it.
std::unique_ptr<Backend> MakeBackend(const std::string &name);

}  // namespace frcnn
