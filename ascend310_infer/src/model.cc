// SPDX-License-Identifier: Apache-2.0
#include "model.h"

#include <algorithm>
#include <cstring>
#include <new>

#include "console.h"

namespace frcnn {
namespace {

std::size_t BytesOf(const TensorInfo &info) {
  std::size_t size = SizeOf(info.type);
  for (const auto side : info.shape) size *= static_cast<std::size_t>(side);
  return size;
}

}  // namespace

Model::Model(const ModelFile &file, const Options &options)
    : file_(file), backend_(MakeBackend(options.backend)) {
  try {
    backend_->Load(file.path.c_str(), options.device);
    RequireSame(file.signature, backend_->Describe());
  } catch (const std::bad_alloc &) {
    throw UserError(file.path.string() + ": there is not enough memory for this model");
  } catch (const std::runtime_error &error) {
    throw UserError(file.path.string() + ": " + error.what());
  }
}

std::size_t Model::ImageBytes() const {
  const TensorInfo &image = file_.signature.inputs[0];
  return BytesOf(image) / static_cast<std::size_t>(image.shape[0]);
}

NetworkInput Model::Prepare(const cv::Mat &picture, Size size, const InputFormat &format) const {
  NetworkInput input;
  const cv::Mat resized = ResizeImage(picture, size, format.rule.like, &input.meta);
  input.image.resize(ImageBytes());
  if (file_.signature.inputs[0].type == DataType::kUint8)
    CopyAndPad(resized, file_.canvas, input.image.data());
  else
    NormalizeAndPad(resized, format, file_.canvas, reinterpret_cast<float *>(input.image.data()));
  return input;
}

std::vector<Tensor> Model::Run(const std::vector<const NetworkInput *> &pictures, double *seconds,
                               bool *first) {
  try {
    const std::vector<Tensor> inputs = Batch(pictures);
    *first = !warm_.exchange(true);
    const double started = Seconds();
    std::vector<Tensor> outputs = backend_->Run(inputs);
    *seconds = Seconds() - started;
    CheckOutputs(outputs);
    return outputs;
  } catch (const BackendError &error) {
    throw UserError(file_.path.string() + ": " + error.what());
  }
}

// The model takes whole batches: the last one is filled up with copies of its first picture.
std::vector<Tensor> Model::Batch(const std::vector<const NetworkInput *> &pictures) const {
  std::vector<Tensor> inputs;
  for (const TensorInfo &info : file_.signature.inputs)
    inputs.push_back({info, std::vector<unsigned char>(BytesOf(info))});
  const auto batch = static_cast<std::size_t>(file_.signature.inputs[0].shape[0]);
  const std::size_t size = ImageBytes();
  for (std::size_t row = 0; row < batch; ++row) {
    const NetworkInput &picture = *pictures[row < pictures.size() ? row : 0];
    std::memcpy(&inputs[0].bytes[row * size], picture.image.data(), size);
    std::memcpy(&inputs[1].bytes[row * sizeof picture.meta], picture.meta.data(),
                sizeof picture.meta);
  }
  return inputs;
}

// Results are read as the card says: a library that returns less must not be trusted.
void Model::CheckOutputs(const std::vector<Tensor> &outputs) const {
  Signature loaded{file_.signature.inputs, {}};
  for (const Tensor &output : outputs) {
    const auto size = BytesOf(output.info);
    if (size == 0 || size != output.bytes.size())
      throw BackendError("an output of the model has another size than its shape");
    loaded.outputs.push_back(output.info);
  }
  RequireSame(file_.signature, loaded);
}

}  // namespace frcnn
