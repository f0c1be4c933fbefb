// SPDX-License-Identifier: Apache-2.0
// What the user sees while images are inferred. Every function may be called by any thread.
#pragma once

#include <cstddef>
#include <mutex>
#include <string>

namespace frcnn {

// Seconds since some moment.
double Seconds();

// Prints an error as one line: names and libraries' texts may hold anything.
void Complain(const std::string &text);

// Shows how many images are done: on a terminal in one line that changes, else a line now and then.
class Progress {
 public:
  explicit Progress(std::size_t total);
  ~Progress();
  Progress(const Progress &) = delete;
  Progress &operator=(const Progress &) = delete;

  // Counts images that are done, whether they could be used or not.
  void Advance(std::size_t count);

 private:
  const std::size_t total_;
  const bool terminal_;
  const double started_;
  std::mutex mutex_;
  std::size_t done_ = 0;
  double shown_;
};

}  // namespace frcnn
