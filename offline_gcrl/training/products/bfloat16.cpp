// Products of two matrices of bfloat16 with MKL, as an operator of torch. See __init__.py.

#include "matrix.h"

#include <cstdint>
#include <torch/csrc/stable/library.h>

using torch::stable::Tensor;

// MKL's function, which libtorch exports. It adds up in float32 and does not round the results.
extern "C" void cblas_gemm_bf16bf16f32(int layout, int left, int right, int rows, int columns, int depth, float alpha,
                                       const uint16_t* a, int stride_a, const uint16_t* b, int stride_b, float beta, float* c,
                                       int stride_c);

namespace {

constexpr int ROW_MAJOR = 101, AS_IT_IS = 111, TRANSPOSED = 112;

// (rows, depth) and (depth, columns) of bfloat16 to (rows, columns) of float32.
Tensor product(Tensor left, Tensor right) {
  left = in_order(left, torch::headeronly::ScalarType::BFloat16);
  right = in_order(right, torch::headeronly::ScalarType::BFloat16);
  STD_TORCH_CHECK(left.size(1) == right.size(0), "the factors do not fit");
  const int rows = left.size(0), depth = left.size(1), columns = right.size(1);
  const Layout a = layout(left), b = layout(right);
  Tensor result = torch::stable::new_empty(left, {rows, columns}, torch::headeronly::ScalarType::Float);
  const auto order = [](const Layout& of) { return of.by_rows ? AS_IT_IS : TRANSPOSED; };
  const auto numbers = [](const Tensor& matrix) { return static_cast<const uint16_t*>(matrix.data_ptr()); };
  cblas_gemm_bf16bf16f32(ROW_MAJOR, order(a), order(b), rows, columns, depth, 1.0f, numbers(left), a.stride, numbers(right), b.stride,
                         0.0f, static_cast<float*>(result.data_ptr()), columns);
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(offline_gcrl, library) { library.def("product_of_bfloat16(Tensor left, Tensor right) -> Tensor"); }
STABLE_TORCH_LIBRARY_IMPL(offline_gcrl, CPU, library) { library.impl("product_of_bfloat16", TORCH_BOX(&product)); }
