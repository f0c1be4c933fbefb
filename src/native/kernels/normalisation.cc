// SPDX-License-Identifier: Apache-2.0
#include "normalisation.h"

#include <cmath>
#include <vector>

#include "threads.h"

namespace kernels {
namespace {

// Sum of term(place), a Vector of kLanes terms or the last ones one by one; lines are short enough
// for sums in float.
template <typename Many, typename One>
double SumOfLine(int64_t count, Many many, One one) {
  Vector sums{};
  int64_t i = 0;
  for (; i + kLanes <= count; i += kLanes) sums += many(i);
  double sum = 0;
  for (int lane = 0; lane < kLanes; ++lane) sum += sums[lane];
  for (; i < count; ++i) sum += one(i);
  return sum;
}

// Calls visit(first number of the line) for each line of a plane that is there.
template <typename Visit>
void EachLine(const Extent &extent, Visit visit) {
  for (int64_t y = 0; y < extent.rows; ++y) visit(y * extent.width);
}

// Calls visit(plane, image, channel) for all planes, on all threads.
template <typename Visit>
void EachPlane(const Norm &norm, Visit visit) {
  Share(int64_t{norm.shape.batch} * norm.channels,
        [&](int64_t plane, int) { visit(plane, plane / norm.channels, plane % norm.channels); });
}

// Adds up add(image, channel, cells of the plane, set), plane by plane, in one thread.
template <typename Add>
void EachInOrder(const Norm &norm, Add add) {
  for (int64_t n = 0; n < norm.shape.batch; ++n) {
    const Extent extent = norm.extent(n);
    const double cells = static_cast<double>(extent.rows) * extent.columns;
    for (int64_t c = 0; c < norm.channels; ++c)
      add(n * norm.channels + c, c, cells, norm.set(n, c));
  }
}

struct Moments {
  double mean = 0, squares = 0;  // the sum of the squares of the distances from the mean
};

Moments MomentsOf(const float *plane, const Extent &extent) {
  Moments moments;
  EachLine(extent, [&](int64_t line) {
    const float *x = plane + line;
    moments.mean += SumOfLine(
        extent.columns, [&](int64_t i) { return Load(x + i); }, [&](int64_t i) { return x[i]; });
  });
  if (extent.rows == 0) return moments;
  moments.mean /= static_cast<double>(extent.rows) * extent.columns;
  const float mean = static_cast<float>(moments.mean);
  EachLine(extent, [&](int64_t line) {
    const float *x = plane + line;
    moments.squares += SumOfLine(
        extent.columns,
        [&](int64_t i) {
          const Vector distance = Load(x + i) - mean;
          return distance * distance;
        },
        [&](int64_t i) { return (x[i] - mean) * (x[i] - mean); });
  });
  return moments;
}

}  // namespace

void Normalise(const Norm &norm, const float *image, const float *scale, const float *shift,
               float *result, float *mean, float *variance) {
  const int64_t area = norm.shape.area();
  std::vector<Moments> planes(static_cast<int64_t>(norm.shape.batch) * norm.channels);
  EachPlane(norm, [&](int64_t plane, int64_t n, int64_t) {
    planes[plane] = MomentsOf(image + plane * area, norm.extent(n));
  });
  std::vector<double> counts(norm.sets()), means(norm.sets()), squares(norm.sets());
  EachInOrder(norm, [&](int64_t plane, int64_t, double cells, int64_t set) {
    counts[set] += cells;
    means[set] += cells * planes[plane].mean;
  });
  for (int64_t set = 0; set < norm.sets(); ++set) {
    counts[set] = std::max(counts[set], 1.0);  // of nothing the mean is 0
    means[set] /= counts[set];
  }
  // Chan, Golub & LeVeque 1979: the squares around the common mean from those around each plane's.
  EachInOrder(norm, [&](int64_t plane, int64_t, double cells, int64_t set) {
    const double away = planes[plane].mean - means[set];
    squares[set] += planes[plane].squares + cells * away * away;
  });
  for (int64_t set = 0; set < norm.sets(); ++set) {
    mean[set] = static_cast<float>(means[set]);
    variance[set] = static_cast<float>(squares[set] / counts[set]);
  }
  EachPlane(norm, [&](int64_t plane, int64_t n, int64_t c) {
    const Extent extent = norm.extent(n);
    const int64_t set = norm.set(n, c);
    const float factor = scale[c] / std::sqrt(variance[set] + norm.eps);
    EachLine(extent, [&](int64_t line) {
      const float *from = image + plane * area + line;
      float *to = result + plane * area + line;
      for (int64_t i = 0; i < extent.columns; ++i)
        to[i] = (from[i] - mean[set]) * factor + shift[c];
    });
    ClearRest(result + plane * area, 1, extent);
  });
}

void NormaliseGradient(const Norm &norm, const float *image, const float *scale, const float *mean,
                       const float *variance, const float *gradient, float *of_image,
                       float *of_scale, float *of_shift) {
  const int64_t area = norm.shape.area(), planes = int64_t{norm.shape.batch} * norm.channels;
  // Of each plane: the sum of the gradient, and that of the gradient times the normalised image.
  std::vector<double> plain(planes), product(planes);
  const auto deviation = [&](int64_t set) { return std::sqrt(variance[set] + norm.eps); };
  EachPlane(norm, [&](int64_t plane, int64_t n, int64_t c) {
    const Extent extent = norm.extent(n);
    const int64_t set = norm.set(n, c);
    EachLine(extent, [&](int64_t line) {
      const float *x = image + plane * area + line, *g = gradient + plane * area + line;
      plain[plane] += SumOfLine(
          extent.columns, [&](int64_t i) { return Load(g + i); }, [&](int64_t i) { return g[i]; });
      product[plane] += SumOfLine(
          extent.columns, [&](int64_t i) { return Load(g + i) * (Load(x + i) - mean[set]); },
          [&](int64_t i) { return g[i] * (x[i] - mean[set]); });
    });
    product[plane] /= deviation(set);
  });
  std::vector<double> counts(norm.sets()), sums(norm.sets()), products(norm.sets());
  std::vector<double> scales(norm.channels), shifts(norm.channels);
  EachInOrder(norm, [&](int64_t plane, int64_t c, double cells, int64_t set) {
    counts[set] += cells;
    sums[set] += scale[c] * plain[plane];
    products[set] += scale[c] * product[plane];
    scales[c] += product[plane];
    shifts[c] += plain[plane];
  });
  for (int64_t c = 0; c < norm.channels; ++c) {
    of_scale[c] = static_cast<float>(scales[c]);
    of_shift[c] = static_cast<float>(shifts[c]);
  }
  EachPlane(norm, [&](int64_t plane, int64_t n, int64_t c) {
    const Extent extent = norm.extent(n);
    const int64_t set = norm.set(n, c);
    const double count = std::max(counts[set], 1.0);
    const float by = deviation(set), share = static_cast<float>(sums[set] / count);
    const float slope = static_cast<float>(products[set] / count) / by;
    EachLine(extent, [&](int64_t line) {
      const int64_t start = plane * area + line;
      for (int64_t i = start; i < start + extent.columns; ++i)
        of_image[i] = (scale[c] * gradient[i] - share - (image[i] - mean[set]) * slope) / by;
    });
    ClearRest(of_image + plane * area, 1, extent);
  });
}

}  // namespace kernels
