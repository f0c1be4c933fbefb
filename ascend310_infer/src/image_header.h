// SPDX-License-Identifier: Apache-2.0
// What an image file says of itself, read without decoding, as src/images/headers.py does in
// Python.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace frcnn {

// An image that cannot be used; the text says why.
class ImageError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

struct ImageHeader {
  const char *kind = "";
  std::int64_t height = 0, width = 0;  // as stored, before EXIF turns them
  double memory = 6;                   // bytes a pixel that decoding takes at most
  std::int64_t passes = 1;             // how many times a decoder goes over the picture
  bool transparent = false;            // it may have an alpha channel
  bool premultiplied = false;          // colours come multiplied by alpha already
  bool animated = false;               // a PNG with more pictures than the first
};

// A file's bytes; reading behind their end throws ImageError.
class ByteReader {
 public:
  explicit ByteReader(const std::vector<unsigned char> &bytes, bool big_endian = true)
      : bytes_(bytes), big_endian_(big_endian) {}

  std::uint64_t size() const { return bytes_.size(); }
  // An unsigned number of `width` bytes.
  std::uint64_t Number(std::uint64_t position, unsigned width) const;
  bool Has(std::uint64_t position, std::string_view text) const;
  // Position of the first `text` from `position` on; the size where there is none.
  std::uint64_t Find(std::uint64_t position, std::string_view text) const;

 private:
  const std::vector<unsigned char> &bytes_;
  bool big_endian_;
};

[[noreturn]] void CutOff();

// Reads the header of a file of a known kind (JPEG, PNG, BMP, WebP, TIFF, PNM) and checks that the
// file holds all that it promises; throws ImageError.
ImageHeader ReadImageHeader(const std::vector<unsigned char> &bytes);

// An animated PNG without its animation, which newer versions of OpenCV die of when it is damaged.
std::vector<unsigned char> FirstPicture(const std::vector<unsigned char> &png);

// The same as ReadImageHeader for a TIFF file's first directory.
ImageHeader ReadTiffHeader(const std::vector<unsigned char> &bytes);

// Throws ImageError for a picture of more than `max_pixels`, or that takes too much memory or time.
void CheckCost(const ImageHeader &header, std::size_t file_size, std::int64_t max_pixels);

}  // namespace frcnn
