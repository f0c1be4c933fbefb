// SPDX-License-Identifier: Apache-2.0
#include "console.h"

#include <unistd.h>

#include <cctype>
#include <chrono>
#include <cstdio>

namespace frcnn {
namespace {

constexpr double kOnTerminal = 0.2, kElsewhere = 10.0;  // seconds between two looks
constexpr const char *kEraseLine = "\r\033[K";

std::mutex output;          // stdout and stderr
bool line_is_open = false;  // on the terminal, by a `Progress`

// With `output` held.
void EraseOpenLine() {
  if (line_is_open) std::printf("%s", kEraseLine);
  line_is_open = false;
  std::fflush(stdout);
}

}  // namespace

double Seconds() {
  using Clock = std::chrono::steady_clock;
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

void Complain(const std::string &text) {
  constexpr std::size_t kLongest = 1000;
  std::string line = text.size() > kLongest ? text.substr(0, kLongest) + " ..." : text;
  while (!line.empty() && std::isspace(static_cast<unsigned char>(line.back())) != 0)
    line.pop_back();
  for (char &letter : line)
    if (static_cast<unsigned char>(letter) < ' ' || letter == 0x7f) letter = ' ';
  const std::lock_guard<std::mutex> lock(output);
  EraseOpenLine();
  std::fprintf(stderr, "error: %s\n", line.c_str());
}

Progress::Progress(std::size_t total)
    : total_(total), terminal_(isatty(STDOUT_FILENO) != 0), started_(Seconds()), shown_(started_) {}

Progress::~Progress() {
  const std::lock_guard<std::mutex> lock(output);
  EraseOpenLine();
}

void Progress::Advance(std::size_t count) {
  const std::lock_guard<std::mutex> own(mutex_);
  done_ += count;
  const double now = Seconds();
  if (now - shown_ < (terminal_ ? kOnTerminal : kElsewhere)) return;
  shown_ = now;
  const double speed = static_cast<double>(done_) / (now - started_);
  const double left = static_cast<double>(total_ - done_) / speed;
  const std::lock_guard<std::mutex> lock(output);
  std::printf("%s%zu of %zu images, %.2f images/s, %.0f s left%s", terminal_ ? kEraseLine : "",
              done_, total_, speed, left, terminal_ ? "" : "\n");
  line_is_open = terminal_;
  std::fflush(stdout);
}

}  // namespace frcnn
