// SPDX-License-Identifier: Apache-2.0
#include "threads.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <iterator>
#include <map>
#include <mutex>
#include <new>
#include <system_error>
#include <thread>
#include <utility>
#include <vector>

namespace kernels {
namespace {

// The processors of the main thread: MindSpore may bind the threads that call us to one each.
cpu_set_t Processors() {
  cpu_set_t set;
  if (sched_getaffinity(getpid(), sizeof(set), &set) != 0) {
    CPU_ZERO(&set);
    CPU_SET(0, &set);
  }
  return set;
}

float *Allocate(int64_t floats) {
  constexpr size_t kPage = 4096;
  const size_t bytes = (floats * sizeof(float) + kPage - 1) / kPage * kPage;
  void *memory = std::aligned_alloc(kPage, bytes);
  if (memory == nullptr) throw std::bad_alloc();
  return static_cast<float *>(memory);
}

std::atomic<int> wanted{1};

class ThreadPool {
 public:
  explicit ThreadPool(int size) : size_(size), memory_(size), length_(size) {
    try {
      for (int thread = 1; thread < size; ++thread)
        std::thread([this, thread] { Help(thread); }).detach(), ++started_;
    } catch (const std::system_error &) {  // the system grants no more of them
      size_ = started_ + 1;
    }
  }

  void Share(int64_t count, const std::function<void(int64_t, int)> &work) {
    std::lock_guard<std::mutex> turn(turn_);
    {
      std::lock_guard<std::mutex> lock(mutex_);
      work_ = &work;
      count_ = count;
      next_ = 0;
      busy_ = size_ - 1;
      ++round_;
    }
    start_.notify_all();
    Run(0);
    std::unique_lock<std::mutex> lock(mutex_);
    done_.wait(lock, [this] { return busy_ == 0; });
    if (error_ != nullptr) std::rethrow_exception(std::exchange(error_, nullptr));
  }

  float *Scratch(int thread, int64_t floats) {
    if (length_[thread] < floats) {
      std::free(memory_[thread]);
      length_[thread] = 0;
      memory_[thread] = nullptr;
      memory_[thread] = Allocate(floats);
      length_[thread] = floats;
    }
    return memory_[thread];
  }

 private:
  // An exception ends the work of this thread; `Share` throws it when all are done.
  void Run(int thread) {
    try {
      for (int64_t item = next_++; item < count_; item = next_++) (*work_)(item, thread);
    } catch (...) {
      std::lock_guard<std::mutex> lock(mutex_);
      error_ = std::current_exception();
    }
  }

  void Help(int thread) {
    const cpu_set_t set = Processors();
    sched_setaffinity(0, sizeof(set), &set);  // not the one of the thread that started this one
    int64_t seen = 0;
    for (;;) {
      {
        std::unique_lock<std::mutex> lock(mutex_);
        start_.wait(lock, [&] { return round_ != seen; });
        seen = round_;
      }
      Run(thread);
      std::lock_guard<std::mutex> lock(mutex_);
      if (--busy_ == 0) done_.notify_one();
    }
  }

  int size_, started_ = 0;
  std::vector<float *> memory_;
  std::vector<int64_t> length_;
  std::mutex turn_, mutex_;
  std::condition_variable start_, done_;
  const std::function<void(int64_t, int)> *work_ = nullptr;
  std::atomic<int64_t> next_{0};
  std::exception_ptr error_;
  int64_t count_ = 0, round_ = 0;
  int busy_ = 0;
};

// Memory that the last operators had, for the next ones. Operators are called by several threads:
// each of them would keep a heap of its own.
class SpareMemory {
 public:
  float *Take(int64_t floats, int64_t *length) {
    std::lock_guard<std::mutex> lock(mutex_);
    auto found = kept_.lower_bound(floats);
    if (found == kept_.end()) {
      if (!kept_.empty()) {  // the largest makes room for a larger one
        found = std::prev(kept_.end());
        std::free(found->second);
        kept_.erase(found);
      }
      *length = floats;
      return Allocate(floats);
    }
    *length = found->first;
    float *start = found->second;
    kept_.erase(found);
    return start;
  }

  void Put(float *start, int64_t length) {
    std::lock_guard<std::mutex> lock(mutex_);
    kept_.emplace(length, start);
  }

 private:
  std::mutex mutex_;
  std::multimap<int64_t, float *> kept_;
};

SpareMemory &Spare() {
  static SpareMemory *one = new SpareMemory;  // never destroyed, like the threads below
  return *one;
}

ThreadPool &Threads() {
  static std::mutex mutex;
  static ThreadPool *one = nullptr;  // never destroyed: its threads may outlive static objects
  static pid_t owner = 0;
  std::lock_guard<std::mutex> lock(mutex);
  if (one == nullptr || owner != getpid()) {  // a process that was forked has none of the threads
    one = new ThreadPool(wanted);
    owner = getpid();
  }
  return *one;
}

}  // namespace

FloatRoom::FloatRoom(int64_t floats) : start_(Spare().Take(floats, &length_)) {}
FloatRoom::~FloatRoom() { Spare().Put(start_, length_); }

void UseThreads(int count) { wanted = std::max(count, 1); }

int ThreadCount() { return wanted; }

void Share(int64_t count, const std::function<void(int64_t, int)> &work) {
  Threads().Share(count, work);
}

float *Scratch(int thread, int64_t floats) { return Threads().Scratch(thread, floats); }

}  // namespace kernels
