// SPDX-License-Identifier: Apache-2.0
#include "exchange.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <stdexcept>
#include <thread>

namespace kernels {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int64_t kPiece = 1 << 19;  // numbers of a process that travel at once
constexpr int kBuffers = 2;          // one is read while the next one is filled
constexpr int64_t kLine = 64;        // bytes: counters of two processes do not share a cache line
constexpr int kTries = 2000;         // looks at a counter before a process sleeps between them

struct alignas(kLine) Counter {
  std::atomic<uint64_t> rounds;  // that the process has put its numbers down for
};
static_assert(sizeof(Counter) == kLine);
static_assert(std::atomic<uint64_t>::is_always_lock_free);

class Exchange {
 public:
  Exchange(const char *path, int rank, int ranks, double seconds)
      : rank_(rank), ranks_(ranks), seconds_(seconds) {
    const int file = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
    if (file < 0) throw std::runtime_error("the shared memory cannot be opened");
    const auto bytes = static_cast<size_t>(ExchangeBytes(ranks));
    void *start = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    if (start == MAP_FAILED) throw std::runtime_error("the shared memory cannot be mapped");
    counters_ = static_cast<Counter *>(start);
    numbers_ = reinterpret_cast<float *>(static_cast<char *>(start) + ranks * kLine);
  }

  int ranks() const { return ranks_; }
  float *Own() { return Slot(rank_); }

  // Where a process has put its numbers of this round.
  float *Slot(int rank) const { return numbers_ + ((rounds_ % kBuffers) * ranks_ + rank) * kPiece; }

  // Says that this process has put its numbers down, and waits until all have.
  void Meet() {
    counters_[rank_].rounds.store(rounds_ + 1, std::memory_order_release);
    for (int other = 0; other < ranks_; ++other) Await(counters_[other].rounds);
  }

  // Goes on to the other buffer. Nobody reads it any more: all have met after reading it.
  void Next() { ++rounds_; }

 private:
  void Await(const std::atomic<uint64_t> &rounds) const {
    Clock::time_point limit;
    for (int tries = 0; rounds.load(std::memory_order_acquire) <= rounds_; ++tries) {
      if (tries < kTries) {
        sched_yield();  // the other process may be waiting for this processor
        continue;
      }
      if (tries == kTries)
        limit = Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                   std::chrono::duration<double>(seconds_));
      if (Clock::now() > limit) throw std::runtime_error("another process did not come in time");
      std::this_thread::sleep_for(std::chrono::microseconds(100));
    }
  }

  const int rank_, ranks_;
  const double seconds_;
  uint64_t rounds_ = 0;
  Counter *counters_;
  float *numbers_;
};

std::unique_ptr<Exchange> joined;

// Calls body(tensor, from, at, length) for the parts of tensors that numbers start..end, counted
// through all tensors, lie in: `length` numbers from `from` in the tensor, `at` in the piece.
template <typename Body>
void EachPart(const std::vector<Averaged> &tensors, int64_t start, int64_t end, Body body) {
  int64_t first = 0;
  for (const Averaged &tensor : tensors) {
    const int64_t low = std::max(first, start), high = std::min(first + tensor.length, end);
    if (low < high) body(tensor, low - first, low - start, high - low);
    first += tensor.length;
    if (first >= end) break;
  }
}

}  // namespace

int64_t ExchangeBytes(int ranks) {
  return ranks * (kLine + kBuffers * kPiece * static_cast<int64_t>(sizeof(float)));
}

void JoinExchange(const char *path, int rank, int ranks, double seconds) {
  joined = std::make_unique<Exchange>(path, rank, ranks, seconds);
}

void MeanOverRanks(const std::vector<Averaged> &tensors) {
  if (!joined) throw std::logic_error("this process has joined no others");
  Exchange &exchange = *joined;
  const float share = 1.0f / static_cast<float>(exchange.ranks());
  int64_t total = 0;
  for (const Averaged &tensor : tensors) total += tensor.length;
  for (int64_t start = 0; start < total; start += kPiece) {
    const int64_t end = std::min(start + kPiece, total);
    EachPart(tensors, start, end,
             [&](const Averaged &tensor, int64_t from, int64_t at, int64_t length) {
               std::memcpy(exchange.Own() + at, tensor.own + from, length * sizeof(float));
             });
    exchange.Meet();
    EachPart(tensors, start, end,
             [&](const Averaged &tensor, int64_t from, int64_t at, int64_t length) {
               float *__restrict mean = tensor.mean + from;
               std::memcpy(mean, exchange.Slot(0) + at, length * sizeof(float));
               for (int rank = 1; rank < exchange.ranks(); ++rank) {
                 const float *__restrict other = exchange.Slot(rank) + at;
                 for (int64_t i = 0; i < length; ++i) mean[i] += other[i];
               }
               for (int64_t i = 0; i < length; ++i) mean[i] *= share;
             });
    exchange.Next();
  }
}

}  // namespace kernels
