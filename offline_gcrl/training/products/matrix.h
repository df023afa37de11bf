// Where the numbers of a matrix are in memory.

#pragma once

#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>

struct Layout {
  bool by_rows;  // Whether rows are contiguous; if not, columns are.
  long stride;   // Distance between rows, or between columns.
};

// The stride of an axis of size 1 is arbitrary, and an axis that is expanded has stride 0.
inline bool has_contiguous_rows(const torch::stable::Tensor& matrix) {
  return (matrix.stride(1) == 1 || matrix.size(1) == 1) && (matrix.stride(0) >= matrix.size(1) || matrix.size(0) == 1);
}

inline bool has_contiguous_columns(const torch::stable::Tensor& matrix) {
  return (matrix.stride(0) == 1 || matrix.size(0) == 1) && (matrix.stride(1) >= matrix.size(0) || matrix.size(1) == 1);
}

// The matrix, or a copy if neither its rows nor its columns are contiguous.
inline torch::stable::Tensor in_order(const torch::stable::Tensor& matrix, torch::headeronly::ScalarType type) {
  STD_TORCH_CHECK(matrix.dim() == 2 && matrix.scalar_type() == type, "a factor is no matrix of this operator's type");
  if (has_contiguous_rows(matrix) || has_contiguous_columns(matrix)) return matrix;
  return torch::stable::contiguous(matrix);
}

inline Layout layout(const torch::stable::Tensor& matrix) {
  if (has_contiguous_rows(matrix)) return {true, matrix.size(0) == 1 ? matrix.size(1) : matrix.stride(0)};
  return {false, matrix.size(1) == 1 ? matrix.size(0) : matrix.stride(1)};
}
