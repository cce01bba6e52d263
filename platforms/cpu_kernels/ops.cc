// TensorFlow ops around norm_relu_conv.h, by TensorFlow's C API.
#include <string>
#include <vector>

#include "norm_relu_conv.h"
#include "tensorflow/c/kernels.h"
#include "tensorflow/c/ops.h"
#include "tensorflow/c/tf_status.h"
#include "tensorflow/c/tf_tensor.h"

namespace sparsenet {
namespace {

struct Status {
  TF_Status* status = TF_NewStatus();
  ~Status() { TF_DeleteStatus(status); }
  bool ok() const { return TF_GetCode(status) == TF_OK; }
};

// Inputs and outputs of a call, in the order of the op's definition.
class Call {
 public:
  explicit Call(TF_OpKernelContext* context) : context_(context) {}
  ~Call() {
    for (TF_Tensor* tensor : tensors_) TF_DeleteTensor(tensor);
  }
  bool ok() const { return status_.ok(); }
  void Fail() { TF_OpKernelContext_Failure(context_, status_.status); }

  TF_Tensor* Input() {
    TF_Tensor* tensor = nullptr;
    TF_GetInput(context_, inputs_++, &tensor, status_.status);
    if (tensor) tensors_.push_back(tensor);
    return tensor;
  }
  float* Output(const std::vector<int64_t>& shape) {
    int64_t size = sizeof(float);
    for (int64_t each : shape) size *= each;
    TF_Tensor* tensor = TF_AllocateOutput(context_, outputs_++, TF_FLOAT, shape.data(),
                                          shape.size(), size, status_.status);
    if (!tensor) return nullptr;
    tensors_.push_back(tensor);
    return static_cast<float*>(TF_TensorData(tensor));
  }

 private:
  TF_OpKernelContext* context_;
  Status status_;
  std::vector<TF_Tensor*> tensors_;
  int inputs_ = 0, outputs_ = 0;
};

float* Values(TF_Tensor* tensor) { return static_cast<float*>(TF_TensorData(tensor)); }

struct Attributes {
  int32_t maps = 1, moments = 1;
  float epsilon = 0.0f;
  bool relu = true;
};

void* Create(TF_OpKernelConstruction* construction) {
  Status status;
  Attributes* found = new Attributes;
  unsigned char relu = 1;
  TF_OpKernelConstruction_GetAttrInt32(construction, "maps", &found->maps, status.status);
  TF_OpKernelConstruction_GetAttrInt32(construction, "moments", &found->moments, status.status);
  TF_OpKernelConstruction_GetAttrFloat(construction, "epsilon", &found->epsilon, status.status);
  TF_OpKernelConstruction_GetAttrBool(construction, "relu", &relu, status.status);
  found->relu = relu;
  if (!status.ok()) TF_OpKernelConstruction_Failure(construction, status.status);
  return found;
}

void* CreateNothing(TF_OpKernelConstruction*) { return nullptr; }

void Delete(void* attributes) { delete static_cast<Attributes*>(attributes); }

// Read the inputs that forward and backward have in common.
bool Read(Call* call, const Attributes& attributes, Layer* layer) {
  std::vector<TF_Tensor*> maps, moments;
  for (int i = 0; i < attributes.maps; ++i) maps.push_back(call->Input());
  for (int i = 0; i < 2 * attributes.moments; ++i) moments.push_back(call->Input());
  TF_Tensor *gamma = call->Input(), *beta = call->Input(), *kernel = call->Input();
  if (!call->ok()) return false;
  for (TF_Tensor* map : maps) layer->maps.push_back({Values(map), TF_Dim(map, 3)});
  for (int i = 0; i < 2 * attributes.moments; ++i) {
    std::vector<float>& to = i < attributes.moments ? layer->mean : layer->variance;
    to.insert(to.end(), Values(moments[i]), Values(moments[i]) + TF_Dim(moments[i], 0));
  }
  layer->images = TF_Dim(maps[0], 0);
  layer->shape = {TF_Dim(maps[0], 1), TF_Dim(maps[0], 2), TF_Dim(kernel, 2),
                  TF_Dim(kernel, 0), TF_Dim(kernel, 1), TF_Dim(kernel, 3)};
  layer->gamma = Values(gamma);
  layer->beta = Values(beta);
  layer->kernel = Values(kernel);
  layer->epsilon = attributes.epsilon;
  layer->relu = attributes.relu;
  return true;
}

void ComputeMoments(void*, TF_OpKernelContext* context) {
  Call call(context);
  TF_Tensor* x = call.Input();
  if (!call.ok()) return call.Fail();
  float* mean = call.Output({TF_Dim(x, 3)});
  float* variance = call.Output({TF_Dim(x, 3)});
  if (!call.ok()) return call.Fail();
  std::lock_guard<std::mutex> lock(TheTeam().owner());
  Moments({Values(x), TF_Dim(x, 3)}, TF_Dim(x, 0), TF_Dim(x, 1) * TF_Dim(x, 2), mean, variance);
}

void ComputeForward(void* attributes, TF_OpKernelContext* context) {
  Call call(context);
  Layer layer;
  if (!Read(&call, *static_cast<Attributes*>(attributes), &layer)) return call.Fail();
  const Shape& s = layer.shape;
  float* y = call.Output({layer.images, s.h, s.w, s.k});
  float *mean = call.Output({s.c}), *variance = call.Output({s.c});
  if (!call.ok()) return call.Fail();
  // Like TensorFlow's own, the variance that moving averages get is without bias.
  const double total = static_cast<double>(layer.images) * s.pixels();
  const double unbiased = total / std::max(1.0, total - 1.0);
  for (int64_t c = 0; c < s.c; ++c) {
    mean[c] = layer.mean[c];
    variance[c] = static_cast<float>(layer.variance[c] * unbiased);
  }
  std::lock_guard<std::mutex> lock(TheTeam().owner());
  Forward(layer, y);
}

void ComputeBackward(void* attributes, TF_OpKernelContext* context) {
  static std::vector<float>* memory = new std::vector<float>;
  Call call(context);
  Layer layer;
  if (!Read(&call, *static_cast<Attributes*>(attributes), &layer)) return call.Fail();
  TF_Tensor* dy = call.Input();
  const Shape& s = layer.shape;
  Gradients to;
  to.gamma = call.Output({s.c});
  to.beta = call.Output({s.c});
  to.kernel = call.Output({s.kh, s.kw, s.c, s.k});
  for (const Map& map : layer.maps)
    to.maps.push_back(call.Output({layer.images, s.h, s.w, map.channels}));
  if (!call.ok()) return call.Fail();
  std::lock_guard<std::mutex> lock(TheTeam().owner());
  Backward(layer, Values(dy), to, memory);
}

void UnknownShape(TF_ShapeInferenceContext* context, TF_Status* status) {
  TF_ShapeInferenceContextSetUnknownShape(context, status);
}

void Define(const std::string& op, const std::vector<std::string>& inputs,
            const std::vector<std::string>& outputs, const std::vector<std::string>& attributes,
            void* (*create)(TF_OpKernelConstruction*), void (*destroy)(void*),
            void (*compute)(void*, TF_OpKernelContext*)) {
  Status status;
  TF_OpDefinitionBuilder* definition = TF_NewOpDefinitionBuilder(op.c_str());
  for (const auto& each : attributes) TF_OpDefinitionBuilderAddAttr(definition, each.c_str());
  for (const auto& each : inputs) TF_OpDefinitionBuilderAddInput(definition, each.c_str());
  for (const auto& each : outputs) TF_OpDefinitionBuilderAddOutput(definition, each.c_str());
  TF_OpDefinitionBuilderSetShapeInferenceFunction(definition, UnknownShape);
  TF_RegisterOpDefinition(definition, status.status);
  TF_RegisterKernelBuilder(op.c_str(),
                           TF_NewKernelBuilder(op.c_str(), "CPU", create, compute, destroy),
                           status.status);
}

struct AtLoad {
  AtLoad() {
    const std::vector<std::string> attributes = {"maps: int >= 1", "moments: int >= 1",
                                                 "epsilon: float", "relu: bool"};
    std::vector<std::string> inputs = {"x: maps * float",           "mean: moments * float",
                                       "variance: moments * float", "gamma: float",
                                       "beta: float",               "filter: float"};
    Define("ChannelMoments", {"x: float"}, {"mean: float", "variance: float"}, {}, CreateNothing,
           Delete, ComputeMoments);
    Define("NormReluConv", inputs, {"y: float", "batch_mean: float", "batch_variance: float"},
           attributes, Create, Delete, ComputeForward);
    inputs.push_back("dy: float");
    Define("NormReluConvGrad", inputs,
           {"gamma_grad: float", "beta_grad: float", "filter_grad: float",
            "x_grad: maps * float"},
           attributes, Create, Delete, ComputeBackward);
  }
} at_load;

}  // namespace
}  // namespace sparsenet

// To be called before the first op runs.
extern "C" void SparseNetUseThreads(int threads) { sparsenet::Team::use_threads = threads; }
