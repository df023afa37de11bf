// Products of two matrices of bfloat16 with MKL, as an operator of torch. See __init__.py.

#include <cstdint>
#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

using torch::stable::Tensor;

// MKL's function, which libtorch exports. It adds up in float32 and does not round the results.
extern "C" void cblas_gemm_bf16bf16f32(int layout, int left, int right, int rows, int columns, int depth, float alpha,
                                       const uint16_t* a, int stride_a, const uint16_t* b, int stride_b, float beta, float* c,
                                       int stride_c);

namespace {

constexpr int ROW_MAJOR = 101, AS_IT_IS = 111, TRANSPOSED = 112;

struct Operand {
  const uint16_t* numbers;
  int order;   // Whether MKL shall transpose it.
  int stride;  // Distance between rows, or between the rows of the transpose.
};

// A matrix whose rows or columns are contiguous. The stride of an axis of size 1 is arbitrary, and MKL wants a valid one.
Operand operand(const Tensor& matrix) {
  const int rows = matrix.size(0), columns = matrix.size(1);
  const int down = matrix.stride(0), right = matrix.stride(1);
  const auto* numbers = static_cast<const uint16_t*>(matrix.data_ptr());
  if ((right == 1 || columns == 1) && (down >= columns || rows == 1))
    return {numbers, AS_IT_IS, rows == 1 ? columns : down};
  return {numbers, TRANSPOSED, columns == 1 ? rows : right};
}

// (rows, depth) and (depth, columns) of bfloat16 to (rows, columns) of float32.
Tensor product(Tensor left, Tensor right) {
  const int rows = left.size(0), depth = left.size(1), columns = right.size(1);
  Tensor result = torch::stable::new_empty(left, {rows, columns}, torch::headeronly::ScalarType::Float);
  const Operand a = operand(left), b = operand(right);
  cblas_gemm_bf16bf16f32(ROW_MAJOR, a.order, b.order, rows, columns, depth, 1.0f, a.numbers, a.stride, b.numbers, b.stride, 0.0f,
                         static_cast<float*>(result.data_ptr()), columns);
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(offline_gcrl, library) { library.def("product_of_bfloat16(Tensor left, Tensor right) -> Tensor"); }
STABLE_TORCH_LIBRARY_IMPL(offline_gcrl, CPU, library) { library.impl("product_of_bfloat16", TORCH_BOX(&product)); }
