// SPDX-License-Identifier: Apache-2.0
#include "pooling.h"

#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "threads.h"
#include "vector.h"

namespace kernels {
namespace {

// Channels that a thread works on at a time: it gathers those of all cells side by side in a table,
// 10 MB for two images of 768x1280; no two threads add to the same numbers.
constexpr int kTogether = 16;
constexpr int kParts = kTogether / kLanes;

// Samples a bin and side, far more than any map has cells for.
constexpr float kMostSamples = 4096;

template <typename Number>
int64_t CellsOf(const std::vector<Map<Number>> &maps, int64_t batch) {
  int64_t cells = 0;
  for (const auto &map : maps) cells += batch * map.area;
  return cells;
}

// What a thread needs for some channels: which they are, their table, and room for a region's bins.
// The room goes from one to the next: of many threads only as many have one as there are blocks.
struct Part {
  int64_t channel, count;
  Room<float> room;
  float *table, *sums;

  Part(int64_t block, int64_t channels, int64_t table_size, int64_t bins)
      : channel(block * kTogether),
        count(std::min<int64_t>(kTogether, channels - channel)),
        room(table_size + bins * kTogether),
        table(room.get()),
        sums(table + table_size) {}
};

// A line or a cell of a line, counted from the first of the map, and its share in a bin.
struct Tap {
  int64_t place;
  float weight;
};

struct Taps {
  const Tap *first, *last;
  const Tap *begin() const { return first; }
  const Tap *end() const { return last; }
};

// Bilinear interpolation treats lines and cells of a line alike: a bin is the sum over its lines
// and cells of both shares times the cell. Samples next to each other read the same cells; their
// shares are added up.
class Axes {
 public:
  Axes(const Regions &regions, int64_t cells) : side_(regions.side) {
    for (int64_t region = 0; region < regions.count; ++region) {
      const float *box = regions.boxes + 4 * region;
      const int32_t *place = regions.places + 4 * region;
      Check(place, cells);
      for (int axis : {0, 1}) AddAxis(box[axis], box[2 + axis], place[2 + axis], regions.samples);
    }
  }

  Taps Lines(int64_t region, int64_t bin) const { return At(2 * region * side_ + bin); }
  Taps Cells(int64_t region, int64_t bin) const { return At((2 * region + 1) * side_ + bin); }

 private:
  static void Check(const int32_t *place, int64_t cells) {
    const int64_t first = place[0], line = place[1], height = place[2], width = place[3];
    if (first < 0 || height < 1 || width < 1 || width > line ||
        first + (height - 1) * line + width > cells)
      throw std::out_of_range("a region reads cells outside the feature maps");
  }

  Taps At(int64_t bin) const {
    return {taps_.data() + (bin ? ends_[bin - 1] : 0), taps_.data() + ends_[bin]};
  }

  void AddAxis(float start, float length, int32_t size, int samples) {
    if (samples == 0) {  // none for a length of 0 or less, or one that is no number
      const float wanted = std::ceil(length / side_);
      samples = wanted >= 1 ? static_cast<int>(std::min(wanted, kMostSamples)) : 0;
    }
    for (int64_t bin = 0; bin < side_; ++bin) {
      const size_t first = taps_.size();
      for (int sample = 0; sample < samples; ++sample) {
        const float step = (bin * samples + sample + 0.5f) / (side_ * samples);
        const float position = start + length * step;
        if (!(position >= -1 && position <= size)) continue;
        const float inside = std::clamp<float>(position, 0, size - 1);
        const int64_t place = static_cast<int64_t>(inside);
        const float fraction = inside - place;
        Add(first, place, (1 - fraction) / samples);
        if (fraction > 0) Add(first, place + 1, fraction / samples);
      }
      ends_.push_back(taps_.size());
    }
  }

  void Add(size_t first, int64_t place, float weight) {
    for (size_t i = taps_.size(); i > first && i + 2 > taps_.size(); --i)
      if (taps_[i - 1].place == place) {
        taps_[i - 1].weight += weight;
        return;
      }
    taps_.push_back({place, weight});
  }

  int64_t side_;
  std::vector<Tap> taps_;
  std::vector<int64_t> ends_;  // of each bin: regions, two axes, bins
};

// Calls visit(table rows, channels' start in memory, area) for every map and image.
template <typename Number, typename Visit>
void EachPlane(const std::vector<Map<Number>> &maps, int64_t batch, int64_t channels,
               int64_t first_channel, float *table, Visit visit) {
  for (const auto &map : maps)
    for (int64_t n = 0; n < batch; ++n) {
      visit(table, map.start + (n * channels + first_channel) * map.area, map.area);
      table += map.area * kTogether;
    }
}

// Calls visit(lines' shares, cells' shares, the bin's sums) for every bin of a region.
template <typename Visit>
void EachBin(const Axes &axes, int64_t region, int64_t side, float *sums, Visit visit) {
  for (int64_t y = 0; y < side; ++y)
    for (int64_t x = 0; x < side; ++x, sums += kTogether)
      visit(axes.Lines(region, y), axes.Cells(region, x), sums);
}

}  // namespace

void Pool(const std::vector<Map<const float>> &maps, int64_t batch, int64_t channels,
          const Regions &regions, float *result) {
  const int64_t table_size = CellsOf(maps, batch) * kTogether;
  const int64_t bins = regions.side * regions.side;
  const Axes axes(regions, CellsOf(maps, batch));
  Share((channels + kTogether - 1) / kTogether, [&](int64_t block, int) {
    const Part part(block, channels, table_size, bins);
    EachPlane(maps, batch, channels, part.channel, part.table,
              [&](float *rows, const float *plane, int64_t area) {
                Transpose(plane, area, rows, kTogether, part.count, area);
              });
    for (int64_t region = 0; region < regions.count; ++region) {
      const int32_t *place = regions.places + 4 * region;
      const float *first = part.table + place[0] * int64_t{kTogether};
      EachBin(axes, region, regions.side, part.sums, [&](Taps lines, Taps cells, float *bin) {
        Vector sum[kParts] = {};
        for (const Tap &line : lines) {
          const float *start = first + line.place * place[1] * kTogether;
          Vector along[kParts] = {};
          for (const Tap &cell : cells)
            for (int v = 0; v < kParts; ++v)
              along[v] += cell.weight * Load(start + cell.place * kTogether + v * kLanes);
          for (int v = 0; v < kParts; ++v) sum[v] += line.weight * along[v];
        }
        for (int v = 0; v < kParts; ++v) Store(bin + v * kLanes, sum[v]);
      });
      Transpose(part.sums, kTogether, result + (region * channels + part.channel) * bins, bins,
                bins, part.count);
    }
  });
}

void PoolGradient(const std::vector<Map<float>> &maps, int64_t batch, int64_t channels,
                  const Regions &regions, const float *gradient) {
  const int64_t table_size = CellsOf(maps, batch) * kTogether;
  const int64_t bins = regions.side * regions.side;
  const Axes axes(regions, CellsOf(maps, batch));
  Share((channels + kTogether - 1) / kTogether, [&](int64_t block, int) {
    const Part part(block, channels, table_size, bins);
    std::memset(part.table, 0, table_size * sizeof(float));
    for (int64_t region = 0; region < regions.count; ++region) {
      const int32_t *place = regions.places + 4 * region;
      float *first = part.table + place[0] * int64_t{kTogether};
      Transpose(gradient + (region * channels + part.channel) * bins, bins, part.sums, kTogether,
                part.count, bins);
      EachBin(axes, region, regions.side, part.sums, [&](Taps lines, Taps cells, float *bin) {
        for (const Tap &line : lines) {
          float *start = first + line.place * place[1] * kTogether;
          for (int v = 0; v < kParts; ++v) {
            const Vector of_line = line.weight * Load(bin + v * kLanes);
            for (const Tap &cell : cells) {
              float *sum = start + cell.place * kTogether + v * kLanes;
              Store(sum, Load(sum) + cell.weight * of_line);
            }
          }
        }
      });
    }
    EachPlane(maps, batch, channels, part.channel, part.table,
              [&](const float *rows, float *plane, int64_t area) {
                Transpose(rows, kTogether, plane, area, area, part.count);
              });
  });
}

}  // namespace kernels
