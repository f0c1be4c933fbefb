// SPDX-License-Identifier: Apache-2.0
// MindSpore Lite, on Ascend 310 or on the CPU. This file is compiled with the library's C++ ABI.
#include <include/api/context.h>
#include <include/api/model.h>
#include <include/api/status.h>
#include <include/api/types.h>

#include <cstring>
#include <string>
#include <vector>

#include "backend.h"

namespace frcnn {
namespace {

DataType FromLite(mindspore::DataType type) {
  switch (type) {
    case mindspore::DataType::kNumberTypeFloat32:
      return DataType::kFloat32;
    case mindspore::DataType::kNumberTypeInt32:
      return DataType::kInt32;
    case mindspore::DataType::kNumberTypeUInt8:
      return DataType::kUint8;
    case mindspore::DataType::kNumberTypeBool:
      return DataType::kBool;
    default:
      return DataType::kOther;
  }
}

void Require(const mindspore::Status &status, const char *step, const char *advice) {
  if (status.IsOk()) return;
  const std::string text = std::string("MindSpore Lite: ") + step +
                           " failed: " + mindspore::Status::CodeAsString(status.StatusCode()) +
                           " " + advice;
  throw BackendError(text.c_str());
}

std::vector<TensorInfo> InfosOf(const std::vector<mindspore::MSTensor> &tensors) {
  std::vector<TensorInfo> infos;
  for (const auto &tensor : tensors) infos.push_back({FromLite(tensor.DataType()), tensor.Shape()});
  return infos;
}

class MindSporeLiteBackend : public Backend {
 public:
  void Load(const char *path, const Device &device) override {
    auto context = std::make_shared<mindspore::Context>();
    if (device.threads > 0) context->SetThreadNum(device.threads);
    if (device.ascend) {
      auto info = std::make_shared<mindspore::AscendDeviceInfo>();
      info->SetDeviceID(device.id);
      context->MutableDeviceInfo().push_back(info);
    } else {
      context->MutableDeviceInfo().push_back(std::make_shared<mindspore::CPUDeviceInfo>());
    }
    Require(model_.Build(std::string(path), mindspore::kMindIR, context), "Model::Build",
            device.ascend ? "Is there an Ascend device with its driver and CANN, and is the "
                            "library new enough for this MINDIR? See its messages above"
                          : "Is the library new enough for this MINDIR? See its messages above");
    if (model_.GetInputs().empty()) throw BackendError("MindSpore Lite: the model has no inputs");
  }

  Signature Describe() override {
    return {InfosOf(model_.GetInputs()), InfosOf(model_.GetOutputs())};
  }

  std::vector<Tensor> Run(const std::vector<Tensor> &inputs) override {
    auto tensors = model_.GetInputs();
    if (tensors.size() != inputs.size()) throw BackendError("wrong number of inputs");
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      void *target = tensors[i].MutableData();
      if (target == nullptr || tensors[i].DataSize() != inputs[i].bytes.size())
        throw BackendError("MindSpore Lite: an input of the model has another size");
      std::memcpy(target, inputs[i].bytes.data(), inputs[i].bytes.size());
    }
    std::vector<mindspore::MSTensor> results;
    Require(model_.Predict(tensors, &results), "Model::Predict", "See its messages above");
    std::vector<Tensor> outputs;
    for (const auto &result : results) {
      Tensor output{{FromLite(result.DataType()), result.Shape()}, {}};
      const std::shared_ptr<const void> data = result.Data();
      if (data == nullptr) throw BackendError("MindSpore Lite: an output of the model has no data");
      const auto *bytes = static_cast<const unsigned char *>(data.get());
      output.bytes.assign(bytes, bytes + result.DataSize());
      outputs.push_back(std::move(output));
    }
    return outputs;
  }

 private:
  mindspore::Model model_;
};

}  // namespace

std::unique_ptr<Backend> MakeMindSporeLiteBackend() {
  return std::make_unique<MindSporeLiteBackend>();
}

}  // namespace frcnn
