// SPDX-License-Identifier: Apache-2.0
// The images of a folder.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace frcnn {

struct ImageFile {
  std::filesystem::path path;
  std::string result_name;  // what its result files start with
};

// Image files and links in a folder, sorted by name; hidden ones are passed over. `result_name` is
// the name without its ending, or with it where two images would have the same.
std::vector<ImageFile> ListImages(const std::filesystem::path &folder);

// A file's bytes; throws ImageError, also for a file that is no regular one or is larger than a
// picture of `max_pixels` needs.
std::vector<unsigned char> ReadBytes(const std::filesystem::path &path, std::int64_t max_pixels);

}  // namespace frcnn
