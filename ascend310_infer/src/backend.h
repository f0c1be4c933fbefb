// SPDX-License-Identifier: Apache-2.0
// What runs the model. The rest of the program does not know which backend it has.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <vector>

namespace frcnn {

// No std::string in this file: MindSpore Lite wants its backend compiled with the old C++ ABI, in
// which std::string is another type than in the rest of the program.

enum class DataType { kFloat32, kInt32, kUint8, kBool, kOther };

inline std::size_t SizeOf(DataType type) {
  switch (type) {
    case DataType::kFloat32:
    case DataType::kInt32:
      return 4;
    case DataType::kUint8:
    case DataType::kBool:
      return 1;
    case DataType::kOther:
      break;
  }
  return 0;
}

struct TensorInfo {
  DataType type = DataType::kOther;
  std::vector<std::int64_t> shape;  // below 1 where the library does not know before it has run
};

struct Tensor {
  TensorInfo info;
  std::vector<unsigned char> bytes;  // dense, row by row, in the machine's byte order
};

struct Signature {
  std::vector<TensorInfo> inputs;
  std::vector<TensorInfo> outputs;
};

struct Device {
  bool ascend = false;  // else the CPU
  std::uint32_t id = 0;
  int threads = 0;  // on the CPU; 0: as many as the library likes
};

// Anything that keeps a model from being loaded or run; the text is for the user.
class BackendError : public std::runtime_error {
 public:
  explicit BackendError(const char *text) : std::runtime_error(text) {}
};

class Backend {
 public:
  virtual ~Backend() = default;

  // Loads a model file for a device. Once, before the other methods.
  virtual void Load(const char *path, const Device &device) = 0;

  // Inputs and outputs of the model, in its order.
  virtual Signature Describe() = 0;

  // Runs the model: inputs as `Describe` says, outputs with their real shapes. The backend
  // onnxruntime may be called by several threads at once, mindspore_lite by one after the other.
  virtual std::vector<Tensor> Run(const std::vector<Tensor> &inputs) = 0;
};

// Each is there when the program was built with it (FRCNN_WITH_...).
std::unique_ptr<Backend> MakeOnnxRuntimeBackend();
std::unique_ptr<Backend> MakeMindSporeLiteBackend();

}  // namespace frcnn
