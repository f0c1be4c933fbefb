// SPDX-License-Identifier: Apache-2.0
#include "image_header.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdlib>
#include <cstring>

namespace frcnn {
namespace {

using Bytes = std::vector<unsigned char>;

constexpr int kMostSegments = 10000;  // of a JPEG, before its data
constexpr int kMostChunks = 1000;     // of a PNG, besides its data
constexpr int kMostTexts = 16;        // compressed ones of a PNG: each may grow to 8 MB
// A JPEG block of 8x8 takes a bit, 4x4 of them may share one in a file with an odd sampling.
constexpr std::int64_t kJpegPixelsOfAByte = 64 * 8 * 4;
constexpr std::uint64_t kDeflateRatio = 1032;
constexpr int kMemoryOfAPixel = 7, kMostPasses = 20;

std::int64_t Signed(std::uint64_t number) {
  return static_cast<std::int32_t>(static_cast<std::uint32_t>(number));
}

// Bytes that `number` takes from `begin` on must be there.
void RequireBytes(const ByteReader &file, std::uint64_t begin, std::uint64_t number) {
  if (begin > file.size() || number > file.size() - begin) CutOff();
}

// Reads the frame's header at `position`; `memory` becomes the number of samples a pixel.
ImageHeader JpegFrame(const ByteReader &file, std::uint64_t position, unsigned marker) {
  ImageHeader header;
  header.kind = "JPEG";
  header.height = static_cast<std::int64_t>(file.Number(position + 5, 2));
  header.width = static_cast<std::int64_t>(file.Number(position + 7, 2));
  const auto components = file.Number(position + 9, 1);
  if (marker > 0xc2 || file.Number(position + 4, 1) != 8 ||
      (components != 1 && components != 3 && components != 4))
    throw ImageError("it is a JPEG of an unusual kind, which is not read: save it anew");
  std::uint64_t across = 1, down = 1, samples = 0;
  for (std::uint64_t i = 0; i < components; ++i) {
    const auto factor = file.Number(position + 11 + 3 * i, 1);
    across = std::max(across, factor >> 4);
    down = std::max(down, factor & 15);
    samples += (factor >> 4) * (factor & 15);
  }
  header.memory = static_cast<double>(samples) / static_cast<double>(across * down);
  header.passes = marker == 0xc2 ? 2 : 1;
  return header;
}

ImageHeader ReadJpeg(const ByteReader &file) {
  std::uint64_t position = 2, components = 0;
  ImageHeader header;
  int segments = 0;
  for (;; ++segments) {
    if (segments == kMostSegments) throw ImageError("it has too many segments before its data");
    const auto marker = file.Number(position, 1) == 0xff ? file.Number(position + 1, 1) : 0xff;
    if (marker == 0xff) {  // what decoders skip
      position = file.Find(position + 1, "\xff");
      continue;
    }
    if (marker == 0x01 || (marker >= 0xd0 && marker <= 0xd8)) {  // without content
      position += 2;
      continue;
    }
    if (marker == 0 || marker == 0xd9) throw ImageError("it is a JPEG without a picture");
    const auto length = file.Number(position + 2, 2);
    const bool frame =
        marker >= 0xc0 && marker <= 0xcf && marker != 0xc4 && marker != 0xc8 && marker != 0xcc;
    if (frame && components == 0) {
      header = JpegFrame(file, position, static_cast<unsigned>(marker));
      components = file.Number(position + 9, 1);
    }
    if (marker == 0xda) break;
    position += 2 + length;
  }
  if (components == 0) throw ImageError("it is a JPEG without a size");
  // Inside the data, no 0xff comes before such a byte: the end marker is really one.
  if (file.Find(position, "\xff\xd9") == file.size() ||
      header.height * header.width > kJpegPixelsOfAByte * static_cast<std::int64_t>(file.size()))
    CutOff();
  if (header.passes == 1 && file.Number(position + 4, 1) >= components) {
    header.memory = 6;
    return header;
  }
  // All coefficients are kept until the last scan.
  header.memory = std::max(6.0, 3.0 + 2.0 * header.memory);
  header.passes = 0;
  for (auto at = position; at < file.size(); at = file.Find(at + 2, "\xff\xda")) ++header.passes;
  return header;
}

// Whether the PNG chunk at `position` belongs to an animation.
bool IsAnimation(const ByteReader &file, std::uint64_t position) {
  return file.Has(position + 4, "acTL") || file.Has(position + 4, "fcTL") ||
         file.Has(position + 4, "fdAT");
}

ImageHeader ReadPng(const ByteReader &file) {
  constexpr std::array<std::uint64_t, 7> kChannels{1, 0, 3, 1, 2, 0, 4};
  const auto width = file.Number(16, 4), height = file.Number(20, 4);
  const auto bits = file.Number(24, 1), colour = file.Number(25, 1);
  if (!file.Has(12, "IHDR") || file.Number(8, 4) != 13 || colour > 6 || kChannels[colour] == 0 ||
      bits > 16)
    throw ImageError("its PNG header is damaged");
  ImageHeader header;
  header.kind = "PNG";
  header.height = static_cast<std::int64_t>(height);
  header.width = static_cast<std::int64_t>(width);
  header.transparent = (colour & 4) != 0;
  std::uint64_t position = 8, content = 0;
  int others = 0, texts = 0;
  for (bool end = false; !end;) {
    const auto length = file.Number(position, 4);
    RequireBytes(file, position, length + 12);
    end = file.Has(position + 4, "IEND");
    if (file.Has(position + 4, "IDAT")) {
      content += length;
    } else if (IsAnimation(file, position)) {
      header.animated = true;
    } else {
      header.transparent = header.transparent || file.Has(position + 4, "tRNS");
      texts += file.Has(position + 4, "zTXt") || file.Has(position + 4, "iTXt") ? 1 : 0;
      if (++others > kMostChunks || texts > kMostTexts)
        throw ImageError("it has too many chunks besides its picture: save it anew");
    }
    position += length + 12;
  }
  const auto row = 1 + (width * kChannels[colour] * bits + 7) / 8;
  if (height != 0 && row > kDeflateRatio * content / height) CutOff();
  if (header.transparent) header.memory = 3.0 + static_cast<double>(bits);
  return header;
}

ImageHeader ReadBmp(const Bytes &bytes) {
  const ByteReader file(bytes, false);
  const auto start = file.Number(10, 4), size = file.Number(14, 4);
  const bool old = size == 12;
  ImageHeader header;
  header.kind = "BMP";
  header.width = old ? static_cast<std::int64_t>(file.Number(18, 2)) : Signed(file.Number(18, 4));
  header.height = old ? static_cast<std::int64_t>(file.Number(20, 2)) : Signed(file.Number(22, 4));
  header.height = std::abs(header.height);
  const auto bits = file.Number(old ? 24 : 28, 2);
  const auto compression = old ? 0 : file.Number(30, 4);
  constexpr std::array<std::uint64_t, 6> kBits{1, 4, 8, 16, 24, 32};
  if (header.width < 1 || size > 1024 || std::find(kBits.begin(), kBits.end(), bits) == kBits.end())
    throw ImageError("its BMP header is damaged");
  const auto row = (static_cast<std::uint64_t>(header.width) * bits + 31) / 32 * 4;
  if (compression != 1 && compression != 2) {
    const auto height = static_cast<std::uint64_t>(header.height);
    if (height != 0 && row > file.size() / height) CutOff();
    RequireBytes(file, start, row * height);
  }
  return header;
}

ImageHeader ReadWebp(const Bytes &bytes) {
  const ByteReader file(bytes, false);
  if (!file.Has(8, "WEBP")) throw ImageError("it is no picture of a known kind");
  RequireBytes(file, 8, file.Number(4, 4));
  ImageHeader header;
  header.kind = "WebP";
  header.memory = 11;
  if (file.Has(12, "VP8X")) {
    const auto flags = file.Number(20, 1);
    header.width = 1 + static_cast<std::int64_t>(file.Number(24, 3));
    header.height = 1 + static_cast<std::int64_t>(file.Number(27, 3));
    header.memory = (flags & 2) != 0 ? 19 : 11;  // an animation keeps two canvases with alpha
    header.transparent = (flags & 0x12) != 0;
  } else if (file.Has(12, "VP8L")) {
    const auto sides = file.Number(21, 4);
    header.width = 1 + static_cast<std::int64_t>(sides & 0x3fff);
    header.height = 1 + static_cast<std::int64_t>((sides >> 14) & 0x3fff);
    header.transparent = true;
  } else if (file.Has(12, "VP8 ")) {
    header.width = static_cast<std::int64_t>(file.Number(26, 2) & 0x3fff);
    header.height = static_cast<std::int64_t>(file.Number(28, 2) & 0x3fff);
    header.memory = 7;
  } else {
    throw ImageError("its WebP header is damaged");
  }
  return header;
}

// Reads the next number of a PNM header, after white space and comments.
std::int64_t PnmNumber(const ByteReader &file, std::uint64_t *position) {
  const auto letter = [&] { return static_cast<int>(file.Number(*position, 1)); };
  const auto start = *position;
  while (std::isspace(letter()) != 0 || letter() == '#') {
    if (letter() == '#')
      while (letter() != '\n' && letter() != '\r') ++*position;
    ++*position;
  }
  std::int64_t number = 0;
  int digits = 0;
  for (; std::isdigit(letter()) != 0; ++*position, ++digits) {
    if (digits == 9) throw ImageError("its PNM header is damaged");
    number = number * 10 + letter() - '0';
  }
  if (digits == 0 || *position == start + static_cast<unsigned>(digits))
    throw ImageError("it is no picture of a known kind");
  return number;
}

ImageHeader ReadPnm(const ByteReader &file) {
  const auto kind = file.Number(1, 1) - '0';
  const bool plain = kind <= 3, bitmap = kind == 1 || kind == 4;
  std::uint64_t position = 2;
  ImageHeader header;
  header.kind = "PNM";
  header.width = PnmNumber(file, &position);
  header.height = PnmNumber(file, &position);
  const auto highest = bitmap ? 1 : PnmNumber(file, &position);
  if (std::isspace(static_cast<int>(file.Number(position, 1))) == 0)
    throw ImageError("it is no picture of a known kind");
  if (!bitmap && highest != 255 && (plain || highest != 65535))
    throw ImageError("its largest value is " + std::to_string(highest) +
                     ": stretch it to 255, or its pixels would be nearly black");
  const auto width = static_cast<std::uint64_t>(header.width);
  const auto row = bitmap && !plain ? (width + 7) / 8
                                    : width * (kind % 3 == 0 ? 3 : 1) * (highest > 255 ? 2 : 1);
  RequireBytes(file, position + 1, row * static_cast<std::uint64_t>(header.height));
  return header;
}

}  // namespace

void CutOff() { throw ImageError("it ends before its picture does"); }

std::uint64_t ByteReader::Number(std::uint64_t position, unsigned width) const {
  if (position > bytes_.size() || width > bytes_.size() - position) CutOff();
  std::uint64_t number = 0;
  for (unsigned i = 0; i < width; ++i)
    number = number << 8 | bytes_[position + (big_endian_ ? i : width - 1 - i)];
  return number;
}

bool ByteReader::Has(std::uint64_t position, std::string_view text) const {
  return position <= bytes_.size() && text.size() <= bytes_.size() - position &&
         std::memcmp(bytes_.data() + position, text.data(), text.size()) == 0;
}

std::uint64_t ByteReader::Find(std::uint64_t position, std::string_view text) const {
  if (position >= bytes_.size()) return bytes_.size();
  const auto begin = bytes_.begin() + static_cast<std::ptrdiff_t>(position);
  const auto equal = [](unsigned char a, char b) { return a == static_cast<unsigned char>(b); };
  const auto found = std::search(begin, bytes_.end(), text.begin(), text.end(), equal);
  return static_cast<std::uint64_t>(found - bytes_.begin());
}

ImageHeader ReadImageHeader(const Bytes &bytes) {
  const ByteReader file(bytes);
  if (bytes.empty()) throw ImageError("the file is empty");
  ImageHeader header;
  if (file.Has(0, "\xff\xd8\xff")) {
    header = ReadJpeg(file);
  } else if (file.Has(0, "\x89PNG\r\n\x1a\n")) {
    header = ReadPng(file);
  } else if (file.Has(0, "BM")) {
    header = ReadBmp(bytes);
  } else if (file.Has(0, "RIFF")) {
    header = ReadWebp(bytes);
  } else if (file.Has(0, {"II*\0", 4}) || file.Has(0, {"MM\0*", 4}) || file.Has(0, {"II+\0", 4}) ||
             file.Has(0, {"MM\0+", 4})) {
    header = ReadTiffHeader(bytes);
  } else if (bytes.size() > 1 && bytes[0] == 'P' && bytes[1] >= '1' && bytes[1] <= '6') {
    header = ReadPnm(file);
  } else {
    throw ImageError("it is no JPEG, PNG, BMP, WebP, TIFF or PNM");
  }
  if (header.height < 1 || header.width < 1)
    throw ImageError(std::string("its ") + header.kind + " header says that it has no pixels");
  return header;
}

Bytes FirstPicture(const Bytes &png) {
  const ByteReader file(png);
  Bytes still(png.begin(), png.begin() + 8);
  for (std::uint64_t position = 8; position < png.size();) {
    const auto end = position + file.Number(position, 4) + 12;
    if (!IsAnimation(file, position))
      still.insert(still.end(), png.begin() + static_cast<std::ptrdiff_t>(position),
                   png.begin() + static_cast<std::ptrdiff_t>(end));
    if (file.Has(position + 4, "IEND")) break;
    position = end;
  }
  return still;
}

void CheckCost(const ImageHeader &header, std::size_t file_size, std::int64_t max_pixels) {
  const std::string what = std::string("it is a ") + header.kind + " of " +
                           std::to_string(header.width) + "x" + std::to_string(header.height) +
                           " pixels";
  // As floats: damaged headers promise more than integers hold.
  const double pixels = static_cast<double>(header.height) * static_cast<double>(header.width);
  const double limit = static_cast<double>(max_pixels);
  if (pixels > limit)
    throw ImageError(what + ", more than --max_image_pixels=" + std::to_string(max_pixels));
  const double needed = pixels * header.memory + static_cast<double>(file_size);
  if (needed > kMemoryOfAPixel * limit)
    throw ImageError(what + " that takes " + std::to_string(static_cast<long long>(needed / 1e6)) +
                     " MB to decode, more than 7 bytes for each pixel of --max_image_pixels=" +
                     std::to_string(max_pixels));
  if (pixels * static_cast<double>(header.passes) > kMostPasses * limit)
    throw ImageError(what + " in " + std::to_string(header.passes) +
                     " scans, which would take too long to decode");
}

}  // namespace frcnn
