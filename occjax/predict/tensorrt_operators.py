"""Operators that TensorRT 10.0 takes without a plugin, and what it asks of them; opset 9 to 20.

The facts of onnx-tensorrt's support matrix, branch 10.0-GA, docs/operators.md (Apache-2.0):
https://github.com/onnx/onnx-tensorrt/blob/10.0-GA/docs/operators.md. UINT8 serves as input or output of the network
only.
"""

OPSETS = (9, 20)
# Types of the data that an operator takes, and the operators that take them.
_BY_TYPES: dict[str, str] = {
    "FP32 FP16 BF16 INT32 INT64": """
        Abs Add ArgMax ArgMin DepthToSpace Div Equal Greater GreaterOrEqual IsNaN Less LessOrEqual Max Min Mod
        Mul Neg Pad Range ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin
        ReduceProd ReduceSum ReduceSumSquare Relu Scatter ScatterElements ScatterND Shrink Sign SpaceToDepth
        Sub Sum TopK
    """,
    "FP32 FP16 BF16": """
        Acos Acosh Asin Asinh Atan Atanh AveragePool BatchNormalization Ceil Celu Clip Conv ConvTranspose Cos
        Cosh CumSum Dropout Einsum Elu Erf Exp Floor Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool
        GroupNormalization GRU HardSigmoid HardSwish Hardmax ImageScaler InstanceNormalization IsInf
        LayerNormalization LeakyRelu Log LogSoftmax LRN LSTM LpNormalization LpPool MatMul MaxPool
        MeanVarianceNormalization ParametricSoftplus Pow PRelu QuantizeLinear RandomNormal RandomNormalLike
        RandomUniform RandomUniformLike Reciprocal Resize RNN Round ScaledTanh Scan Selu Sigmoid Sin Sinh
        Softmax Softplus Softsign Sqrt Tan Tanh ThresholdedRelu Upsample
    """,
    "BOOL": """
        And Not Or Xor
    """,
    "FP32 FP16 BF16 INT32 INT64 UINT8 BOOL": """
        Cast CastLike
    """,
    "FP32 FP16 BF16 INT32 INT64 BOOL": """
        Concat Constant Expand EyeLike Flatten Gather GatherElements GatherND Identity If Loop OneHot Reshape
        ReverseSequence Shape Size Slice Split Squeeze Tile Transpose Trilu Unsqueeze Where
    """,
    "FP32": """
        ConstantOfShape
    """,
    "INT8 FP8 INT4": """
        DequantizeLinear
    """,
    "FP32 FP16 BF16 INT8 INT32 INT64": """
        Gelu
    """,
    "FP32 FP16": """
        GridSample Mish NonMaxSuppression NonZero RoiAlign
    """,
    "FP32 FP16 BF16 FP8 INT32 INT64": """
        Mean
    """,
}
OPERATORS: dict[str, tuple[str, ...]] = {
    name: tuple(types.split()) for types, names in _BY_TYPES.items() for name in names.split()
}
# Operators whose axes (or starts and pads) must be known when the network is built: the inputs that must be constants.
CONSTANT_INPUTS: dict[str, tuple[int, ...]] = {
    **{name: (1,) for name in OPERATORS if name.startswith("Reduce")},
    **{"Squeeze": (1,), "Unsqueeze": (1,), "CumSum": (1,), "OneHot": (1,), "Slice": (3,), "Pad": (3,)},
    # Zero points, which must be zero besides.
    **{"QuantizeLinear": (2,), "DequantizeLinear": (2,)},
}
# Attributes that may have these values only; where one is absent, ONNX's default is one of them.
ATTRIBUTES: dict[tuple[str, str], tuple[object, ...]] = {
    ("ScatterND", "reduction"): ("none",),
    ("Resize", "mode"): ("nearest", "linear"),
    ("Resize", "nearest_mode"): ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil"),
    ("Resize", "keep_aspect_ratio_policy"): ("stretch",),
    ("Resize", "antialias"): (0,),
    ("Resize", "coordinate_transformation_mode"): (
        *("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners"),
    ),
}
# Pools: over two or three axes, without dilation.
POOLS = ("MaxPool", "AveragePool", "LpPool")
