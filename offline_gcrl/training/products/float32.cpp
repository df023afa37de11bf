// Products of float32 matrices with tiles of bfloat16 (Intel's AMX), as an operator of torch. See __init__.py.
//
// A number of float32 has 24 significant bits and is the sum of three numbers of bfloat16, which have 8 each. Of the nine
// products of the parts of two numbers, the six with parts i + j <= 2 are added up, in float32. The other three are smaller
// than the error of one rounding of float32 (Henry, Tang and Heinecke 2019, arXiv 1904.06376).

#include "matrix.h"

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <immintrin.h>
#include <memory>
#include <new>
#include <stdexcept>
#include <sys/syscall.h>
#include <torch/csrc/stable/library.h>
#include <unistd.h>

using torch::stable::Tensor;

namespace {

constexpr int PARTS = 3;
constexpr long SIDE = 16, DEPTH = 32;  // A tile has 32 numbers of each of 16 vectors, in pairs.
constexpr long TILE = SIDE * SIDE;     // Pairs of bfloat16.
constexpr long TILES = PARTS * TILE;   // Pairs of the tiles of all parts.
// Tiles of a block. Its parts take 96 KB, and those of the right factor 384 KB with 512 columns, which fits into the L2 cache.
constexpr long ROW_BLOCK = 8, DEPTH_BLOCK = 4;
constexpr long BLOCK = 2 * SIDE;       // Rows and columns that four tiles of results have.

// The rows of the left factor or the columns of the right one: `count` vectors of `depth` numbers.
struct Vectors {
  const float* numbers;
  long count, depth;
  long across, along;  // Distances between vectors, and between the numbers of one vector.
};

// Memory that grows, aligned to cache lines.
class Buffer {
 public:
  uint32_t* of(size_t size) {
    if (size > size_) {
      memory_.reset(static_cast<uint32_t*>(std::aligned_alloc(64, (size * sizeof(uint32_t) + 63) / 64 * 64)));
      if (!memory_) throw std::bad_alloc();
      size_ = size;
    }
    return memory_.get();
  }

 private:
  struct Free {
    void operator()(uint32_t* memory) const { std::free(memory); }
  };
  std::unique_ptr<uint32_t, Free> memory_;
  size_t size_ = 0;
};

__m512 widened(__m256i numbers) { return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(numbers), 16)); }

// The parts of 32 numbers, as pairs of neighbours if they are contiguous, else as pairs of a number of `low` and one of `high`.
void split(__m512 low, __m512 high, bool contiguous, __m512i parts[PARTS]) {
  const __m512i first = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i interleaved = _mm512_or_si512(first, _mm512_slli_epi32(_mm512_add_epi32(first, _mm512_set1_epi32(16)), 16));
  for (int part = 0; part < PARTS; part++) {
    const __m512i rounded = (__m512i)_mm512_cvtne2ps_pbh(high, low);
    parts[part] = contiguous ? rounded : _mm512_permutexvar_epi16(interleaved, rounded);
    low = _mm512_sub_ps(low, widened(_mm512_castsi512_si256(rounded)));
    high = _mm512_sub_ps(high, widened(_mm512_extracti64x4_epi64(rounded, 1)));
  }
}

void transpose(__m512i rows[SIDE]) {
  __m512i other[SIDE];
  for (int i = 0; i < 16; i += 2) {
    other[i] = _mm512_unpacklo_epi32(rows[i], rows[i + 1]);
    other[i + 1] = _mm512_unpackhi_epi32(rows[i], rows[i + 1]);
  }
  for (int i = 0; i < 16; i += 4)
    for (int j = 0; j < 2; j++) {
      rows[i + 2 * j] = _mm512_unpacklo_epi64(other[i + j], other[i + j + 2]);
      rows[i + 2 * j + 1] = _mm512_unpackhi_epi64(other[i + j], other[i + j + 2]);
    }
  for (int i = 0; i < 4; i++)
    for (int j = 0; j < 16; j += 8) {
      other[i + j] = _mm512_shuffle_i32x4(rows[i + j], rows[i + j + 4], 0x88);
      other[i + j + 4] = _mm512_shuffle_i32x4(rows[i + j], rows[i + j + 4], 0xdd);
    }
  for (int i = 0; i < 8; i++) {
    rows[i] = _mm512_shuffle_i32x4(other[i], other[i + 8], 0x88);
    rows[i + 8] = _mm512_shuffle_i32x4(other[i], other[i + 8], 0xdd);
  }
}

__mmask16 up_to(long numbers) { return numbers >= 16 ? 0xffff : numbers <= 0 ? 0 : (1u << numbers) - 1; }

// The tiles of 16 vectors from `first` and of 32 numbers from `depth`, with zeros beyond the ends. A row of a tile of the left
// factor is a vector, and one of the right factor has a pair of each vector.
void pack(const Vectors& vectors, long first, long depth, bool left, uint32_t* tiles) {
  __m512i rows[PARTS][SIDE], parts[PARTS];
  const bool contiguous = vectors.along == 1;
  for (long row = 0; row < SIDE; row++) {
    const long vector = contiguous ? first + row : first, number = contiguous ? depth : depth + 2 * row;
    const float* at = vectors.numbers + vector * vectors.across + number * vectors.along;
    const long inside = contiguous ? (vector < vectors.count) * (vectors.depth - number) : vectors.count - vector;
    const __mmask16 low = up_to(contiguous || number < vectors.depth ? inside : 0);
    const __mmask16 high = up_to(contiguous ? inside - 16 : number + 1 < vectors.depth ? inside : 0);
    const float* next = at + (contiguous ? 16 : vectors.along);
    split(_mm512_maskz_loadu_ps(low, at), _mm512_maskz_loadu_ps(high, next), contiguous, parts);
    for (int part = 0; part < PARTS; part++) rows[part][row] = parts[part];
  }
  for (int part = 0; part < PARTS; part++) {
    if (contiguous != left) transpose(rows[part]);
    for (long row = 0; row < SIDE; row++) _mm512_store_si512(tiles + part * TILE + row * SIDE, rows[part][row]);
  }
}

// Tiles of `count` times 16 vectors, each with its `deep` tiles of depth one after another, read in the order of memory.
void pack_all(const Vectors& vectors, long first, long count, long depth, long deep, bool left, uint32_t* tiles) {
  const bool contiguous = vectors.along == 1;
  const long outer = contiguous ? count : deep, inner = contiguous ? deep : count;
  for (long i = 0; i < outer; i++)
    for (long j = 0; j < inner; j++) {
      const long vector = contiguous ? i : j, number = contiguous ? j : i;
      pack(vectors, first + vector * SIDE, depth + number * DEPTH, left, tiles + (vector * deep + number) * TILES);
    }
}

// Adds to, or with `begin` sets, 32 x 32 results. Tiles 0 to 3 have results, 4 and 5 a part of the left factor, and 6 and 7 one of
// the right factor. Small products are added first. Part 1 of the right factor is loaded twice, for lack of tiles.
void multiply(const uint32_t* left, const uint32_t* right, long deep, bool begin, float* results, long stride) {
  asm volatile("" ::: "memory");  // GCC does not know that tiles are loaded from memory.
  const uint32_t *left_below = left + deep * TILES, *right_beside = right + deep * TILES;
  const long bytes = stride * sizeof(float);
  if (begin) {
    _tile_zero(0); _tile_zero(1); _tile_zero(2); _tile_zero(3);
  } else {
    _tile_loadd(0, results, bytes); _tile_loadd(1, results + SIDE, bytes);
    _tile_loadd(2, results + SIDE * stride, bytes); _tile_loadd(3, results + SIDE * stride + SIDE, bytes);
  }
  for (long depth = 0; depth < deep; depth++) {
    const long at = depth * TILES;
    const auto load_left = [&](int part) {
      _tile_loadd(4, left + at + part * TILE, 64); _tile_loadd(5, left_below + at + part * TILE, 64);
    };
    const auto load_right = [&](int part) {
      _tile_loadd(6, right + at + part * TILE, 64); _tile_loadd(7, right_beside + at + part * TILE, 64);
    };
    const auto add = [] {
      _tile_dpbf16ps(0, 4, 6); _tile_dpbf16ps(1, 4, 7); _tile_dpbf16ps(2, 5, 6); _tile_dpbf16ps(3, 5, 7);
    };
    load_left(2);
    load_right(0);
    add();
    load_left(1);
    add();
    load_right(1);
    add();
    load_left(0);
    load_right(2);
    add();
    load_right(1);
    add();
    load_right(0);
    add();
  }
  _tile_stored(0, results, bytes); _tile_stored(1, results + SIDE, bytes);
  _tile_stored(2, results + SIDE * stride, bytes); _tile_stored(3, results + SIDE * stride + SIDE, bytes);
}

void copy(const float* from, long from_stride, float* to, long to_stride, long rows, long columns) {
  for (long row = 0; row < rows; row++) std::memcpy(to + row * to_stride, from + row * from_stride, columns * sizeof(float));
}

// One depth of a block of rows, for all columns.
void multiply_rows(const Vectors& left, const Vectors& right, long row, long rows, long depth, long deep, const uint32_t* packed_right,
                   float* results) {
  static thread_local Buffer memory;
  alignas(64) float edge[BLOCK * BLOCK];
  uint32_t* packed = memory.of(ROW_BLOCK * DEPTH_BLOCK * TILES);
  pack_all(left, row, rows, depth, deep, true, packed);
  const long stride = right.count;
  for (long column = 0; column < right.count; column += BLOCK)
    for (long tile = 0; tile < rows; tile += 2) {
      const long top = row + tile * SIDE;
      const long height = std::min(BLOCK, left.count - top), width = std::min(BLOCK, right.count - column);
      float* place = results + top * stride + column;
      const bool whole = height == BLOCK && width == BLOCK;
      if (!whole && depth) copy(place, stride, edge, BLOCK, height, width);
      multiply(packed + tile * deep * TILES, packed_right + column / SIDE * deep * TILES, deep, depth == 0, whole ? place : edge,
               whole ? stride : BLOCK);
      if (!whole) copy(edge, BLOCK, place, stride, height, width);
    }
}

struct alignas(64) TileShapes {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes_per_row[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};

// The number of tiles of 16 vectors, rounded up to an even one.
long even_tiles(long vectors) { return (vectors + BLOCK - 1) / BLOCK * 2; }

void multiply_all(const Vectors& left, const Vectors& right, float* results) {
  static thread_local Buffer memory;
  const long tiles_down = even_tiles(left.count), tiles_across = even_tiles(right.count);
  const long tiles_deep = (left.depth + DEPTH - 1) / DEPTH;
  uint32_t* packed = memory.of(tiles_across * DEPTH_BLOCK * TILES);
  const TileShapes shapes;
  _tile_loadconfig(&shapes);
  for (long depth = 0; depth < tiles_deep; depth += DEPTH_BLOCK) {
    const long deep = std::min(DEPTH_BLOCK, tiles_deep - depth);
    pack_all(right, 0, tiles_across, depth * DEPTH, deep, false, packed);
    for (long tile = 0; tile < tiles_down; tile += ROW_BLOCK)
      multiply_rows(left, right, tile * SIDE, std::min(ROW_BLOCK, tiles_down - tile), depth * DEPTH, deep, packed, results);
  }
  _tile_release();
}

// Linux gives a process the state of tiles only if it asks for it.
bool may_use_tiles() {
  constexpr long REQUEST_PERMISSION = 0x1023, TILE_DATA = 18;
  static const bool granted = syscall(SYS_arch_prctl, REQUEST_PERMISSION, TILE_DATA) == 0;
  return granted;
}

// (rows, depth) and (depth, columns) to (rows, columns), all of float32.
Tensor product(Tensor left, Tensor right) {
  if (!may_use_tiles()) throw std::runtime_error("the operating system does not permit tiles (AMX)");
  left = in_order(left, torch::headeronly::ScalarType::Float);
  right = in_order(right, torch::headeronly::ScalarType::Float);
  STD_TORCH_CHECK(left.size(1) == right.size(0), "the factors do not fit");
  const auto numbers = [](const Tensor& matrix) { return static_cast<const float*>(matrix.data_ptr()); };
  const Layout a = layout(left), b = layout(right);
  const Vectors rows{numbers(left), left.size(0), left.size(1), a.by_rows ? a.stride : 1, a.by_rows ? 1 : a.stride};
  const Vectors columns{numbers(right), right.size(1), right.size(0), b.by_rows ? 1 : b.stride, b.by_rows ? b.stride : 1};
  Tensor result = torch::stable::new_empty(left, {rows.count, columns.count});
  multiply_all(rows, columns, static_cast<float*>(result.data_ptr()));
  return result;
}

}  // namespace

STABLE_TORCH_LIBRARY_FRAGMENT(offline_gcrl, library) { library.def("product_of_float32(Tensor left, Tensor right) -> Tensor"); }
STABLE_TORCH_LIBRARY_IMPL(offline_gcrl, CPU, library) { library.impl("product_of_float32", TORCH_BOX(&product)); }
