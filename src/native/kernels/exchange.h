// SPDX-License-Identifier: Apache-2.0
// The mean of tensors over the processes of one machine, through memory that they share.
#pragma once

#include <cstdint>
#include <vector>

namespace kernels {

// A tensor of this process, and where the mean over all processes goes.
struct Averaged {
  const float *own;
  float *mean;
  int64_t length;
};

// Bytes of the shared file, which begins with zeros.
int64_t ExchangeBytes(int ranks);

// Maps the file and takes part as `rank`. A process that waits longer than `seconds` for the others
// gives up. Throws where the file cannot be mapped.
void JoinExchange(const char *path, int rank, int ranks, double seconds);

// All processes call it with tensors of the same lengths. Ranks are added in their order, so that
// all get the same bits. Throws when another process does not come.
void MeanOverRanks(const std::vector<Averaged> &tensors);

}  // namespace kernels
