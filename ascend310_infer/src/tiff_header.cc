// SPDX-License-Identifier: Apache-2.0
// The first directory of a TIFF file (TIFF 6.0, sections 2 and 8; BigTIFF).
#include <algorithm>
#include <map>

#include "image_header.h"

namespace frcnn {
namespace {

enum Tag : unsigned {
  kWidth = 256,
  kHeight = 257,
  kBits = 258,
  kPhotometric = 262,
  kStripOffsets = 273,
  kSamples = 277,
  kRows = 278,
  kStripBytes = 279,
  kTileWidth = 322,
  kTileHeight = 323,
  kTileOffsets = 324,
  kTileBytes = 325,
  kExtra = 338,
  kFormat = 339
};
constexpr unsigned kMostEntries = 4096, kMostSamples = 16, kCmyk = 5;

using Values = std::vector<std::uint64_t>;

class Directory {
 public:
  explicit Directory(const std::vector<unsigned char> &bytes)
      : file_(bytes, ByteReader(bytes).Has(0, "MM")) {
    const auto version = file_.Number(2, 2);
    big_ = version == 43;
    place_ = big_ ? 8 : 4;
    const unsigned head = big_ ? 8 : 2;
    auto position = file_.Number(big_ ? 8 : 4, place_);
    const auto count = file_.Number(position, head);
    if (count > kMostEntries) throw ImageError("its TIFF header has too many entries");
    position += head;
    for (std::uint64_t i = 0; i < count; ++i, position += 4 + 2 * place_) ReadEntry(position);
  }

  std::uint64_t First(Tag tag, std::uint64_t otherwise) const {
    const auto found = values_.find(tag);
    return found == values_.end() ? otherwise : found->second[0];
  }
  bool Has(Tag tag) const { return values_.count(tag) != 0; }
  // All values of a tag, `otherwise` where there is none.
  Values All(Tag tag, const Values &otherwise) const {
    const auto found = values_.find(tag);
    return found == values_.end() ? otherwise : found->second;
  }

  // Makes sure that every strip or tile lies inside of the file.
  void CheckComplete() const {
    if (!Has(kStripOffsets) && !Has(kTileOffsets))
      throw ImageError("it is a TIFF without a picture");
    for (const auto &[offsets, sizes] :
         {std::pair{kStripOffsets, kStripBytes}, std::pair{kTileOffsets, kTileBytes}}) {
      const Values starts = All(offsets, {}), lengths = All(sizes, {});
      for (std::size_t i = 0; i < starts.size(); ++i) {
        const auto length = i < lengths.size() ? lengths[i] : 0;
        if (starts[i] >= file_.size() || length > file_.size() - starts[i]) CutOff();
      }
    }
  }

 private:
  static unsigned WidthOf(std::uint64_t type) {
    switch (type) {
      case 1:
        return 1;
      case 3:
        return 2;
      case 4:
        return 4;
      case 16:
        return 8;
      default:
        return 0;
    }
  }

  void ReadEntry(std::uint64_t position) {
    const auto tag = static_cast<unsigned>(file_.Number(position, 2));
    const auto width = WidthOf(file_.Number(position + 2, 2));
    const auto count = file_.Number(position + 4, place_);
    const bool wanted = (tag >= kWidth && tag <= kStripBytes) ||
                        (tag >= kTileWidth && tag <= kTileBytes) || tag == kExtra || tag == kFormat;
    if (!wanted || width == 0 || values_.count(tag) != 0) return;
    if (count == 0) throw ImageError("its TIFF header is damaged");
    if (count > file_.size()) CutOff();
    auto at = position + 4 + place_;
    if (count * width > place_) at = file_.Number(at, place_);
    Values values;
    for (std::uint64_t i = 0; i < count; ++i) values.push_back(file_.Number(at + i * width, width));
    values_[tag] = values;
  }

  ByteReader file_;
  bool big_ = false;
  unsigned place_ = 4;
  std::map<unsigned, Values> values_;
};

// Refuses what a decoder would show wrong without a word, such as signed values as bright.
void CheckSamples(const Directory &directory, std::uint64_t depth) {
  for (const auto format : directory.All(kFormat, {1}))
    if (format != 1 && format != 4)
      throw ImageError(
          "it has signed or floating-point samples, which are not read: save it with "
          "unsigned 8 or 16 bits a channel");
  if (depth != 1 && depth != 4 && depth != 8 && depth != 16)
    throw ImageError("it has " + std::to_string(depth) +
                     "-bit samples, which are not read: save "
                     "it with unsigned 8 or 16 bits a channel");
}

// The share of the picture that a decoder holds at once besides the result: strip or tile.
double PartInMemory(const Directory &directory, const ImageHeader &header) {
  const double height = static_cast<double>(header.height);
  if (directory.Has(kTileWidth) || directory.Has(kTileHeight)) {
    const auto across = static_cast<double>(directory.First(kTileWidth, 0));
    const auto down = static_cast<double>(directory.First(kTileHeight, 0));
    if (across < 1 || down < 1) throw ImageError("its TIFF header is damaged");
    return across * down / (static_cast<double>(header.width) * height);
  }
  const auto rows = directory.First(kRows, static_cast<std::uint64_t>(header.height));
  return std::min(static_cast<double>(rows), height) / height;
}

}  // namespace

ImageHeader ReadTiffHeader(const std::vector<unsigned char> &bytes) {
  const Directory directory(bytes);
  ImageHeader header;
  header.kind = "TIFF";
  const auto width = directory.First(kWidth, 0), height = directory.First(kHeight, 0);
  const auto bits = directory.All(kBits, {1});
  const auto depth = bits[0], samples = directory.First(kSamples, 1);
  const bool alike = std::all_of(bits.begin(), bits.end(), [&](auto b) { return b == depth; });
  if (width == 0 || height == 0 || width > UINT32_MAX || height > UINT32_MAX || !alike ||
      samples == 0 || samples > kMostSamples)
    throw ImageError("its TIFF header is damaged");
  header.width = static_cast<std::int64_t>(width);
  header.height = static_cast<std::int64_t>(height);
  CheckSamples(directory, depth);
  directory.CheckComplete();
  header.transparent = (samples == 2 || samples == 4) && directory.First(kPhotometric, 1) != kCmyk;
  const double whole = static_cast<double>(depth * samples) / 8;  // bytes a pixel
  header.memory = std::max({6.0, 3.0 + (4.0 + whole) * PartInMemory(directory, header),
                            header.transparent ? 3.0 + static_cast<double>(depth) : 0.0});
  // The decoder multiplies 8 bits itself.
  header.premultiplied = depth <= 8 || directory.First(kExtra, 0) == 1;
  return header;
}

}  // namespace frcnn
