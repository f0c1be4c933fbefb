// SPDX-License-Identifier: Apache-2.0
#include "images.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <map>
#include <set>
#include <string_view>

#include "model_card.h"
#include "preprocess.h"

namespace frcnn {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 12> kEndings{".jpg",  ".jpeg", ".jpe",  ".jfif",
                                                    ".png",  ".bmp",  ".webp", ".tif",
                                                    ".tiff", ".ppm",  ".pgm",  ".pbm"};
constexpr std::uint64_t kFileBytesOfAPixel = 4;  // for every pixel of the limit

bool IsImageName(const fs::path &path) {
  if (path.filename().string().front() == '.') return false;  // a Mac's ._NAME among them
  std::string ending = path.extension().string();
  std::transform(ending.begin(), ending.end(), ending.begin(),
                 [](unsigned char letter) { return static_cast<char>(std::tolower(letter)); });
  return std::find(kEndings.begin(), kEndings.end(), ending) != kEndings.end();
}

}  // namespace

std::vector<ImageFile> ListImages(const fs::path &folder) {
  std::vector<ImageFile> images;
  std::map<std::string, int> stems;
  std::set<std::string> names;
  try {
    for (const auto &entry : fs::directory_iterator(folder)) {
      std::error_code ignored;  // a link to nowhere is listed: it is reported when it is read
      if (!IsImageName(entry.path()) || entry.is_directory(ignored)) continue;
      images.push_back({entry.path(), ""});
      ++stems[entry.path().stem().string()];
      names.insert(entry.path().filename().string());
    }
  } catch (const fs::filesystem_error &error) {
    throw UserError("--dataset_path=" + folder.string() + ": " + error.code().message());
  }
  if (images.empty())
    throw UserError("--dataset_path=" + folder.string() + ": there are no images in it");
  std::sort(images.begin(), images.end(),
            [](const ImageFile &a, const ImageFile &b) { return a.path < b.path; });
  for (ImageFile &image : images) {
    const std::string stem = image.path.stem().string(), name = image.path.filename().string();
    image.result_name = stems[stem] == 1 && !names.count(stem) ? stem : name;
  }
  return images;
}

std::vector<unsigned char> ReadBytes(const fs::path &path, std::int64_t max_pixels) {
  std::error_code error;
  const auto status = fs::status(path, error);
  if (!fs::exists(status)) throw ImageError(error ? error.message() : "no such file");
  if (!fs::is_regular_file(status)) throw ImageError("not a regular file");
  std::ifstream file(path, std::ios::binary);
  if (!file) throw ImageError(std::strerror(errno));
  const std::uint64_t size = fs::file_size(path, error);
  if (error) throw ImageError(error.message());
  if (size > kFileBytesOfAPixel * static_cast<std::uint64_t>(max_pixels))
    throw ImageError("it has " + std::to_string(size) +
                     " bytes, more than 4 for each pixel of "
                     "--max_image_pixels=" +
                     std::to_string(max_pixels));
  std::vector<unsigned char> bytes(size);
  file.read(reinterpret_cast<char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  if (file.gcount() != static_cast<std::streamsize>(bytes.size()))
    throw ImageError("it could not be read to its end");
  return bytes;
}

}  // namespace frcnn
