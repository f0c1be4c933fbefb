# SPDX-License-Identifier: Apache-2.0
"""The ONNX operators that runtimes say they have, from their published tables."""

# Of onnx-tensorrt's docs/operators.md for TensorRT 10.0: those marked Y.
_TENSORRT = """
Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh AveragePool BatchNormalization
Cast CastLike Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh
CumSum DeformConv DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand
EyeLike Flatten Floor Gather GatherElements GatherND Gelu Gemm GlobalAveragePool
GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample GroupNormalization GRU
HardSigmoid HardSwish Hardmax Identity If ImageScaler InstanceNormalization IsInf IsNaN
LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop LRN LSTM LpNormalization
LpPool MatMul Max MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul Neg
NonMaxSuppression NonZero Not OneHot Or Pad ParametricSoftplus Pow PRelu QuantizeLinear
RandomNormal RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1
ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum
ReduceSumSquare Relu Reshape Resize ReverseSequence RNN RoiAlign Round ScaledTanh Scan
Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin Sinh Size Slice Softmax
Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh ThresholdedRelu Tile TopK
Transpose Trilu Unsqueeze Upsample Where Xor
"""

# The list of ONNX operators of CANN 8.0's ATC (Huawei's documentation), spelled as there.
_CANN = """
Abs Acos Acosh AdaptiveAvgPool2D Add AffineGrid And Argmax Argmin AscendAntiQuant
AscendQuant Asin Asinh Atan Atanh AveragePool BatchNormalization BatchMultiClassNMS BitShift
BitwiseAnd BitwiseNot BitwiseOr BitwiseXor Cast Ceil Celu Clip Compress Concat Constant
ConstantOfShape Conv ConvTranspose Corr Cos Cosh Cumsum DeformableConv2D DepthToSpace Det
Div Dropout DynSeqOuter Einsum Elu EmbeddingBag Equal Erf Exp Expand EyeLike Flatten Floor
Gather GatherElements GatherND Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater
GreaterOrEqual GridSample GRU Hardmax HardSigmoid HardSwish Identity If
InstanceNormalization IsInf IsNaN LayerNormalization LeakyRelu Less LessOrEqual Log
LogSoftMax LpNormalization LpPool LRN LSTM LSTMP MatMul Max MaxPool MaxRoiPool MaxUnpool
Mean MeanVarianceNormalization Min Mod MovingSumWithSigmoid Mul Multinomial Neg
NonMaxSuppression NonZero Not OneHot Or Pad Pow RandomNormal RandomNormalLike RandomUniform
RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMean
ReduceMin ReduceProd ReduceSumSquare ReduceSum ReduceMax Relu Reshape Resize ReverseSequence
RoiAlign RoiExtractor Round PRelu Scatter ScatterElements ScatterND Selu Shape Shrink
Sigmoid Sign Sin Sinh Size Slice Softmax SoftmaxCrossEntropyLoss Softplus Softsign
SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh TfIdfVectorizer ThresholdedRelu Tile TopK
Transpose Trilu Unsqueeze Where Xor
"""

# ONNX Runtime and OpenVINO have all of the operators of opset 16 that no sequence or loop is in.
EVERYWHERE = frozenset(_TENSORRT.split()) & frozenset(_CANN.split())
