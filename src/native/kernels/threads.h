// SPDX-License-Identifier: Apache-2.0
// Work shared by the threads of one pool.
#pragma once

#include <cstdint>
#include <functional>

namespace kernels {

// Sets how many threads take part; of use before the first call of `Share` in the process.
void UseThreads(int count);
int ThreadCount();

// Calls work(item, thread) for items 0..count-1, each once, on all threads; returns when all are
// done. `thread` numbers the threads from 0. One call at a time: others wait for their turn.
void Share(int64_t count, const std::function<void(int64_t item, int thread)> &work);

// Memory for `floats` numbers as long as the object lives, aligned to pages, not initialised. The
// next object may get the same.
class FloatRoom {
 public:
  explicit FloatRoom(int64_t floats);
  ~FloatRoom();
  FloatRoom(const FloatRoom &) = delete;
  FloatRoom &operator=(const FloatRoom &) = delete;

 protected:
  int64_t length_;
  float *start_;
};

// The same for floats, or other things of four bytes.
template <typename Thing>
class Room : FloatRoom {
 public:
  static_assert(sizeof(Thing) == sizeof(float));
  using FloatRoom::FloatRoom;
  Thing *get() const { return reinterpret_cast<Thing *>(start_); }
};

// Memory of a thread, at least `floats` long, aligned to pages; it lives until the thread asks for
// more.
float *Scratch(int thread, int64_t floats);

}  // namespace kernels
