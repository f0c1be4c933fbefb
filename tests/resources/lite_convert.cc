// SPDX-License-Identifier: Apache-2.0
// Converts an ONNX file to MindSpore Lite 2.0's own MINDIR: lite_convert IN.onnx OUT.
//
// The Python package mindspore-lite holds the converter's library but not its header, so the few
// functions that are needed are declared here.
#include <include/api/status.h>
#include <include/api/types.h>
#include <include/registry/converter_context.h>

#include <cstdio>
#include <memory>
#include <string>
#include <vector>

namespace mindspore {
class Converter {
 public:
  Converter(converter::FmkType kind, const std::vector<char> &model,
            const std::vector<char> &output, const std::vector<char> &weights);
  void SetSaveType(ModelType type);
  Status Convert();

 private:
  std::shared_ptr<void> data_;
};
}  // namespace mindspore

int main(int argc, char **argv) {
  if (argc != 3) return 2;
  const std::string model = argv[1], output = argv[2];
  mindspore::Converter converter(mindspore::converter::kFmkTypeOnnx, {model.begin(), model.end()},
                                 {output.begin(), output.end()}, {});
  converter.SetSaveType(mindspore::kMindIR);
  const mindspore::Status status = converter.Convert();
  if (!status.IsOk()) std::fprintf(stderr, "conversion failed: %s\n", status.ToString().c_str());
  return status.IsOk() ? 0 : 1;
}
