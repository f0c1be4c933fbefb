// SPDX-License-Identifier: Apache-2.0
// What threads hand to each other: bounded, so that a slow one holds the others back.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <mutex>
#include <optional>
#include <utility>
#include <vector>

namespace frcnn {

// Things in the order in which they come. Every method may be called by any thread.
template <typename Thing>
class BoundedQueue {
 public:
  explicit BoundedQueue(std::size_t most) : most_(most) {}

  // Waits for room; returns false, without the thing, once the queue was cancelled.
  bool Push(Thing thing) {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return cancelled_ || things_.size() < most_; });
    if (cancelled_) return false;
    things_.push_back(std::move(thing));
    changed_.notify_all();
    return true;
  }

  // Waits for a thing; nothing once the queue was closed and is empty, or was cancelled.
  std::optional<Thing> Pop() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] { return cancelled_ || closed_ || !things_.empty(); });
    if (cancelled_ || things_.empty()) return std::nullopt;
    std::optional<Thing> thing(std::move(things_.front()));
    things_.pop_front();
    changed_.notify_all();
    return thing;
  }

  // Says that nothing more comes.
  void Close() {
    const std::lock_guard<std::mutex> lock(mutex_);
    closed_ = true;
    changed_.notify_all();
  }

  // Ends all waiting; what is in the queue is lost.
  void Cancel() {
    const std::lock_guard<std::mutex> lock(mutex_);
    cancelled_ = true;
    changed_.notify_all();
  }

 private:
  const std::size_t most_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<Thing> things_;
  bool closed_ = false, cancelled_ = false;
};

// Numbered tasks 0, 1, ... that several threads do in any order, and whose results one takes in the
// order of the numbers. At most `most` are being done or wait.
template <typename Result>
class OrderedTasks {
 public:
  OrderedTasks(std::size_t count, std::size_t most) : count_(count), slots_(most) {}

  // Waits for the next task's number; nothing when there are no more, or after `Cancel`.
  std::optional<std::size_t> Claim() {
    std::unique_lock<std::mutex> lock(mutex_);
    changed_.wait(lock, [this] {
      return cancelled_ || claimed_ == count_ || claimed_ < taken_ + slots_.size();
    });
    if (cancelled_ || claimed_ == count_) return std::nullopt;
    return claimed_++;
  }

  // Hands the result of a claimed task in.
  void Put(std::size_t task, Result result) {
    const std::lock_guard<std::mutex> lock(mutex_);
    slots_[task % slots_.size()] = std::move(result);
    changed_.notify_all();
  }

  // Waits for the next result in order; nothing after the last one, or after `Cancel`.
  std::optional<Result> Take() {
    std::unique_lock<std::mutex> lock(mutex_);
    const auto has_next = [this] { return slots_[taken_ % slots_.size()].has_value(); };
    changed_.wait(lock, [&] { return cancelled_ || taken_ == count_ || has_next(); });
    if (cancelled_ || taken_ == count_) return std::nullopt;
    std::optional<Result> result = std::move(slots_[taken_ % slots_.size()]);
    slots_[taken_ % slots_.size()].reset();
    ++taken_;
    changed_.notify_all();
    return result;
  }

  // Ends all waiting.
  void Cancel() {
    const std::lock_guard<std::mutex> lock(mutex_);
    cancelled_ = true;
    changed_.notify_all();
  }

 private:
  const std::size_t count_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<std::optional<Result>> slots_;
  std::size_t claimed_ = 0, taken_ = 0;
  bool cancelled_ = false;
};

}  // namespace frcnn
