// SPDX-License-Identifier: Apache-2.0
// 3x3 convolutions of stride 1, padded by 1, with Winograd's minimal filtering (Lavin & Gray 2015):
// F(4x4, 3x3), or F(2x2, 3x3) for small maps and in bfloat16.
#include <algorithm>
#include <vector>

#include "convolution.h"
#include "matrix.h"
#include "threads.h"
#include "winograd_tiles.h"

namespace kernels {
namespace {

// Between the numbers of two points, which are written and read together: a power of two apart,
// they would share their places in a cache.
constexpr int64_t kGap = 5 * kLanes;

// The filters as [point][column block][in][kColumns], what the products read from front to back; in
// factors along `in`. Flipped and exchanged (`backward`) they carry the gradient of the outputs to
// the inputs.
template <typename Transform, typename Factor>
class Filters {
 public:
  Filters(const float *filters, int in, int out, bool backward)
      : depth_(in / kDeep<Factor>),
        point_(depth_ * out + kGap),
        room_(Transform::kPoints * point_) {
    Share(out / kColumns, [&](int64_t block, int) {
      for (int64_t c = 0; c < in; c += kLanes) {
        for (int64_t lane = 0; lane < kColumns; lane += kLanes) {
          const int64_t k = block * kColumns + lane;
          float taps[kLanes * kTaps * kLanes];  // [channel][tap][lane]
          if (backward)
            for (int i = 0; i < kLanes; ++i)
              Transpose(filters + ((c + i) * out + k) * kTaps, kTaps, taps + i * kTaps * kLanes,
                        kLanes, kLanes, kTaps);
          else
            Transpose(filters + (k * in + c) * kTaps, in * kTaps, taps, kLanes, kLanes,
                      kLanes * kTaps);
          PutChannels(taps, backward, room_.get() + Place(block * kColumns, c) + lane);
        }
      }
    });
  }

  // Those of a point for the kColumns results from `column` on.
  const Factor *at(int64_t point, int64_t column) const {
    return room_.get() + point * point_ + Place(column, 0);
  }

 private:
  static constexpr int kTaps = 9;

  int64_t Place(int64_t column, int64_t channel) const {
    return column * depth_ + channel / kDeep<Factor> * kColumns;
  }

  void PutChannels(const float *taps, bool backward, Factor *to) const {
    constexpr int kPoints = Transform::kPoints, deep = kDeep<Factor>;
    for (int c = 0; c < kLanes; c += deep, to += kColumns) {
      Vector points[kPoints][deep];
      for (int turn = 0; turn < deep; ++turn, taps += kTaps * kLanes)
        BothWays(
            Transform::Filter,
            [&](int y, int x) {
              const int tap = y * 3 + x;
              return Load(taps + (backward ? kTaps - 1 - tap : tap) * kLanes);
            },
            [&](int p, Vector numbers) { points[p][turn] = numbers; });
      for (int p = 0; p < kPoints; ++p) StoreAcross(to + p * point_, points[p]);
    }
  }

  const int64_t depth_, point_;  // of a column, and of all of a point's, in factors
  const Room<Factor> room_;
};

int Tiles(int length, int side) { return (length + side - 1) / side; }

// How a correlation is cut.
struct Cut {
  int tiles;    // of a block, at most
  int columns;  // of results that are there before they are transformed back

  template <typename Transform, typename Factor>
  static Cut Of(const Shape &shape, int in, int out) {
    constexpr int64_t kOwnFloats = 600 * 1024 / 4;     // stay in a cache of 1 MB
    constexpr int64_t kSharedFloats = (18 << 20) / 4;  // in one of 32 MB that threads share
    constexpr int64_t kMostTiles = 96;
    const int64_t depth = in / kDeep<Factor>;
    if (kDeep<Factor> > 1)
      return {InRows(kOwnFloats / (Transform::kPoints * depth), 8 * kRows), kColumns};
    // A block reads all filters, which do not fit a thread's own cache: that takes longer than to
    // keep many tiles in a shared one. But every thread should have some.
    const int64_t all = int64_t{shape.batch} * Tiles(shape.height, Transform::kOut) *
                        Tiles(shape.width, Transform::kOut);
    const int64_t floats = std::max(kOwnFloats, kSharedFloats / ThreadCount());
    const int64_t fit = floats / (Transform::kPoints * (depth + out));
    return {InRows(std::min(fit, (all + ThreadCount() - 1) / ThreadCount()), kMostTiles), out};
  }

 private:
  static int InRows(int64_t tiles, int64_t most) {
    return static_cast<int>(std::clamp<int64_t>(tiles / kRows * kRows, kRows, most));
  }
};

template <typename Transform, typename Factor>
void Correlate(const Shape &shape, const float *image, const float *filters, const Ending &ending,
               bool backward, float *result) {
  constexpr int kPoints = Transform::kPoints;
  const int in = backward ? shape.out : shape.in, out = backward ? shape.in : shape.out;
  const int64_t depth = in / kDeep<Factor>;
  const Filters<Transform, Factor> prepared(filters, in, out, backward);
  const auto [most_tiles, wide] = Cut::Of<Transform, Factor>(shape, in, out);
  const Blocks<Grid> blocks(
      shape.batch, [&](int n) { return Grid(shape.extent(n), Transform::kOut, most_tiles); });
  const int64_t area = shape.area();
  Share(blocks.count(), [&](int64_t item, int thread) {
    const auto [grid, n, number] = blocks.place(item);
    const Block<Transform> block(grid, number);
    const int64_t point = block.tiles * depth + kGap;
    const int64_t columns_size = int64_t{block.tiles} * kColumns;
    const int64_t sums_point = columns_size * (wide / kColumns) + kGap;
    float *patch = Scratch(thread, block.patch() + kPoints * (sums_point + point));
    float *sums = patch + block.patch();  // [point][block of columns][tile][kColumns]
    // [point][tile][channel]
    Factor *lifted = reinterpret_cast<Factor *>(sums + kPoints * sums_point);
    block.TransformInput(image + n * in * area, in, patch,
                         [&](int64_t p, int64_t t, int64_t c, Vector numbers) {
                           StoreAlong(lifted + p * point + t * depth + c / kDeep<Factor>, numbers);
                         });
    for (int first = 0; first < out; first += wide) {
      const int end = std::min(first + wide, out);
      for (int64_t p = 0; p < kPoints; ++p)
        for (int k = first; k < end; k += kColumns)
          Multiply(Product<Factor>{lifted + p * point, depth, 1, prepared.at(p, k), kColumns,
                                   sums + p * sums_point + (k - first) / kColumns * columns_size,
                                   kColumns, depth, false},
                   block.tiles);
      for (int k = first; k < end; k += kColumns)
        block.TransformOutput(sums + (k - first) / kColumns * columns_size, sums_point,
                              ending.bias ? ending.bias + k : nullptr, ending.positive, patch,
                              result + (n * out + k) * area);
    }
    if (number == 0) ClearRest(result + n * out * area, out, grid.extent);
  });
}

// Factors of transformed tiles, `bytes` each, that are multiplied together: they fit the cache that
// threads share. In float, more of them are worth their room where sums are many, but no more of
// them than that.
template <typename Factor>
int64_t BatchFactors(int64_t bytes) {
  if (kDeep<Factor> > 1) return (12 << 20) / bytes;
  return std::min<int64_t>((20 << 20) / bytes, 512);
}

// Factors that are summed up by themselves before they are added to the others: sums of few are
// rounded less than one that goes through all of an image.
constexpr int64_t kTogether = 256;

// Transformed tiles of several blocks as [point][block of kColumns channels][tile][channel], in
// factors along the tiles: what a product reads lies together.
template <typename Factor>
struct Lifted {
  Factor *start;
  int64_t tiles, channels;  // room for so many

  static int64_t Point(int64_t tiles, int64_t channels) { return tiles * channels + kGap; }

  Factor *at(int64_t point, int64_t channel) const {
    return start + point * Point(tiles, channels) + channel / kColumns * kColumns * tiles +
           channel % kColumns;
  }

  // What takes a block's tiles, from the factor `first` on.
  auto From(int64_t first) const {
    return [*this, first](int64_t point, int64_t tile, int64_t channel, Vector numbers) {
      const int64_t place = first + tile / kDeep<Factor>;
      PutAcross(at(point, channel) + place * kColumns, numbers, tile % kDeep<Factor>);
    };
  }
};

template <typename Transform, typename Factor>
void FilterGradients(const Shape &shape, const float *image, const float *gradient, float *result) {
  constexpr int kPoints = Transform::kPoints;
  const int in = shape.in, out = shape.out;
  const Blocks<Grid> blocks(
      shape.batch, [&](int n) { return Grid(shape.extent(n), Transform::kOut, 4 * kRows); });
  const int64_t area = shape.area(), items = blocks.count();
  int64_t most = 1;  // factors of a block
  for (const Grid &grid : blocks.cuts()) most = std::max(most, Factors<Factor>(grid.most_tiles()));
  const int64_t tile_bytes = static_cast<int64_t>(kPoints) * (in + out) * sizeof(Factor);
  const int64_t at_once = std::max<int64_t>(1, BatchFactors<Factor>(tile_bytes) / most);
  const int64_t stride = at_once * most;
  const Room<Factor> images(kPoints * Lifted<Factor>::Point(stride, in));
  const Room<Factor> gradients(kPoints * Lifted<Factor>::Point(stride, out));
  const Lifted<Factor> lifted = {images.get(), stride, in};
  const Lifted<Factor> lifted_gradient = {gradients.get(), stride, out};
  const Room<float> sums(int64_t{kPoints} * in * out);
  for (int64_t done = 0; done < items; done += at_once) {
    const int64_t count = std::min(at_once, items - done);
    std::vector<int64_t> first(count + 1, 0);
    for (int64_t i = 0; i < count; ++i) {
      const auto [grid, n, number] = blocks.place(done + i);
      first[i + 1] = first[i] + Factors<Factor>(Block<Transform>(grid, number).tiles);
    }
    Share(count, [&](int64_t i, int thread) {
      const auto [grid, n, number] = blocks.place(done + i);
      const Block<Transform> block(grid, number);
      float *patch = Scratch(thread, block.patch());
      block.TransformInput(image + n * in * area, in, patch, lifted.From(first[i]));
      block.TransformOutputGradient(gradient + n * out * area, out, patch,
                                    lifted_gradient.From(first[i]));
    });
    Share(kPoints * (in / kColumns), [&](int64_t i, int) {
      const int64_t p = i / (in / kColumns), c = i % (in / kColumns) * kColumns;
      for (int k = 0; k < out; k += kColumns) {
        float *sum = sums.get() + (p * out + k) * in + c;
        for (int64_t t = 0; t < first[count]; t += kTogether)
          Multiply(Product<Factor>{lifted_gradient.at(p, k) + t * kColumns, 1, kColumns,
                                   lifted.at(p, c) + t * kColumns, kColumns, sum, in,
                                   std::min(kTogether, first[count] - t), false, nullptr,
                                   done + t > 0 ? sum : nullptr},
                   kColumns);
      }
    });
  }
  Share(out, [&](int64_t k, int) {
    for (int c = 0; c < in; c += kLanes) {
      Vector taps[9];
      BothWays(
          Transform::FilterGradient,
          [&](int64_t y, int64_t x) {
            return Load(sums.get() + ((y * Transform::kIn + x) * out + k) * in + c);
          },
          [&](int i, Vector numbers) { taps[i] = numbers; });
      for (int l = 0; l < kLanes; ++l)
        for (int i = 0; i < 9; ++i) result[(k * in + c + l) * 9 + i] = taps[i][l];
    }
  });
}

// What a map's tiles, of a batch of two, and the filters cost: these as much as so many tiles.
template <typename Transform>
int64_t Cost(const Shape &shape) {
  constexpr int64_t kFilters = 80;
  const int64_t tiles =
      int64_t{Tiles(shape.height, Transform::kOut)} * Tiles(shape.width, Transform::kOut);
  return Transform::kPoints * (2 * tiles + kFilters);
}

// Calls run(transform) with the one that takes less time for maps of this size: a map has the same
// result in every batch, and whatever of it is there. Products in bfloat16 keep to the one whose
// sums lose least.
template <typename Factor, typename Run>
void WithTransform(const Shape &shape, Run run) {
  if (kDeep<Factor> == 1 && Cost<FourByFour>(shape) < Cost<TwoByTwo>(shape))
    run(FourByFour());
  else
    run(TwoByTwo());
}

}  // namespace

template <typename Factor>
void Filter<Factor>::Forward(const Shape &shape, const float *image, const float *weights,
                             const Ending &ending, float *result) {
  WithTransform<Factor>(shape, [&](auto transform) {
    Correlate<decltype(transform), Factor>(shape, image, weights, ending, false, result);
  });
}

template <typename Factor>
void Filter<Factor>::InputGradient(const Shape &shape, const float *gradient, const float *weights,
                                   float *result) {
  WithTransform<Factor>(shape, [&](auto transform) {
    Correlate<decltype(transform), Factor>(shape, gradient, weights, {}, true, result);
  });
}

template <typename Factor>
void Filter<Factor>::WeightGradient(const Shape &shape, const float *image, const float *gradient,
                                    float *result) {
  WithTransform<Factor>(shape, [&](auto transform) {
    FilterGradients<decltype(transform), Factor>(shape, image, gradient, result);
  });
}

template struct Filter<float>;
template struct Filter<BfloatPair>;

}  // namespace kernels
