// SPDX-License-Identifier: Apache-2.0
// ONNX Runtime on the CPU.
#include <onnxruntime_cxx_api.h>

#include <string>
#include <vector>

#include "backend.h"

namespace frcnn {
namespace {

DataType FromOnnx(ONNXTensorElementDataType type) {
  switch (type) {
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT:
      return DataType::kFloat32;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32:
      return DataType::kInt32;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8:
      return DataType::kUint8;
    case ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL:
      return DataType::kBool;
    default:
      return DataType::kOther;
  }
}

ONNXTensorElementDataType ToOnnx(DataType type) {
  switch (type) {
    case DataType::kFloat32:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_FLOAT;
    case DataType::kInt32:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_INT32;
    case DataType::kUint8:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_UINT8;
    case DataType::kBool:
      return ONNX_TENSOR_ELEMENT_DATA_TYPE_BOOL;
    case DataType::kOther:
      break;
  }
  return ONNX_TENSOR_ELEMENT_DATA_TYPE_UNDEFINED;
}

TensorInfo InfoOf(const Ort::TypeInfo &type) {
  if (type.GetONNXType() != ONNX_TYPE_TENSOR) return {};
  const auto tensor = type.GetTensorTypeAndShapeInfo();
  return {FromOnnx(tensor.GetElementType()), tensor.GetShape()};
}

class OnnxRuntimeBackend : public Backend {
 public:
  void Load(const char *path, const Device &device) override {
    if (device.ascend) throw BackendError("the backend onnxruntime runs on the CPU only");
    try {
      Ort::SessionOptions options;
      options.SetIntraOpNumThreads(device.threads);
      options.SetGraphOptimizationLevel(GraphOptimizationLevel::ORT_ENABLE_ALL);
      session_ = Ort::Session(environment_, path, options);
      Ort::AllocatorWithDefaultOptions allocator;
      for (std::size_t i = 0; i < session_.GetInputCount(); ++i)
        input_names_.emplace_back(session_.GetInputNameAllocated(i, allocator).get());
      for (std::size_t i = 0; i < session_.GetOutputCount(); ++i)
        output_names_.emplace_back(session_.GetOutputNameAllocated(i, allocator).get());
    } catch (const Ort::Exception &error) {
      throw BackendError(error.what());
    }
  }

  Signature Describe() override {
    Signature signature;
    try {
      for (std::size_t i = 0; i < input_names_.size(); ++i)
        signature.inputs.push_back(InfoOf(session_.GetInputTypeInfo(i)));
      for (std::size_t i = 0; i < output_names_.size(); ++i)
        signature.outputs.push_back(InfoOf(session_.GetOutputTypeInfo(i)));
    } catch (const Ort::Exception &error) {
      throw BackendError(error.what());
    }
    return signature;
  }

  std::vector<Tensor> Run(const std::vector<Tensor> &inputs) override {
    try {
      return Predict(inputs);
    } catch (const Ort::Exception &error) {
      throw BackendError(error.what());
    }
  }

 private:
  std::vector<Tensor> Predict(const std::vector<Tensor> &inputs) {
    if (inputs.size() != input_names_.size()) throw BackendError("wrong number of inputs");
    const auto memory = Ort::MemoryInfo::CreateCpu(OrtArenaAllocator, OrtMemTypeDefault);
    std::vector<Ort::Value> values;
    for (const Tensor &input : inputs) {
      // The library takes a pointer to non-const, but does not write to inputs.
      auto *data = const_cast<unsigned char *>(input.bytes.data());
      values.push_back(Ort::Value::CreateTensor(memory, data, input.bytes.size(),
                                                input.info.shape.data(), input.info.shape.size(),
                                                ToOnnx(input.info.type)));
    }
    const auto input_names = Pointers(input_names_);
    const auto output_names = Pointers(output_names_);
    const auto results = session_.Run(Ort::RunOptions{nullptr}, input_names.data(), values.data(),
                                      values.size(), output_names.data(), output_names.size());
    std::vector<Tensor> outputs;
    for (const Ort::Value &result : results) {
      const auto shape = result.GetTensorTypeAndShapeInfo();
      Tensor output{{FromOnnx(shape.GetElementType()), shape.GetShape()}, {}};
      const auto size = shape.GetElementCount() * SizeOf(output.info.type);
      const auto *data = static_cast<const unsigned char *>(result.GetTensorRawData());
      output.bytes.assign(data, data + size);
      outputs.push_back(std::move(output));
    }
    return outputs;
  }

  static std::vector<const char *> Pointers(const std::vector<std::string> &names) {
    std::vector<const char *> pointers;
    for (const std::string &name : names) pointers.push_back(name.c_str());
    return pointers;
  }

  Ort::Env environment_{ORT_LOGGING_LEVEL_ERROR, "faster_rcnn"};
  Ort::Session session_{nullptr};
  std::vector<std::string> input_names_, output_names_;
};

}  // namespace

std::unique_ptr<Backend> MakeOnnxRuntimeBackend() { return std::make_unique<OnnxRuntimeBackend>(); }

}  // namespace frcnn
