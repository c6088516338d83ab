// Products of rows and packed weights, in tiles whose sums stay in registers.
//
// A panel holds the weights of kTileColumns columns, row after row, so that a tile reads them from
// front to back. A tile is up to kTileRows rows by one panel.
#pragma once

#include "vectors.h"

namespace rnnlab {
namespace RNNLAB_SET {

template <class Real>
constexpr int kTileColumns = 2 * kLanes<Real>;

// Panels are prefetched this many bytes ahead. Weights larger than the second-level cache are read
// from the third at every step, and hardware prefetching does not keep up.
constexpr int64_t kPrefetchBytes = 4096;

// Prefetches a row of a panel or of a tile. The address may lie beyond the end of the array.
template <class Real>
RNNLAB_INLINE void prefetch(const Real* row) {
  constexpr int line = 64 / sizeof(Real);
#pragma GCC unroll 4
  for (int i = 0; i < kTileColumns<Real>; i += line) __builtin_prefetch(row + i);
}

RNNLAB_INLINE int64_t round_up(int64_t n, int64_t multiple) {
  return (n + multiple - 1) / multiple * multiple;
}
RNNLAB_INLINE int64_t smaller(int64_t a, int64_t b) { return a < b ? a : b; }
RNNLAB_INLINE int64_t larger(int64_t a, int64_t b) { return a > b ? a : b; }

// A matrix by rows; ``stride`` numbers from one row to the next.
template <class Real>
struct Rows {
  const Real* data;
  int64_t stride, columns;

  Rows from(int64_t row) const { return {data + row * stride, stride, columns}; }
};

// A multiplication and an addition take four cycles, two start in each: eight sums must be open. A
// tile of few rows has several sums for each number, over every second, third, ... column of a.
constexpr int partial_sums(int rows) { return rows == 1 ? 4 : rows == 2 ? 2 : 1; }

// sums += a · panel.
template <class Real, int rows, int parts>
RNNLAB_INLINE void accumulate(Vector<Real> (&sums)[parts][rows][2], Rows<Real> a,
                              const Real* panel) {
  constexpr int lanes = kLanes<Real>;
  constexpr int64_t ahead = kPrefetchBytes / sizeof(Real);
  int64_t k = 0;
  for (; k + parts <= a.columns; k += parts) {
#pragma GCC unroll 4
    for (int p = 0; p < parts; p++, panel += 2 * lanes) {
      Vector<Real> left = load(panel), right = load(panel + lanes);
      prefetch(panel + ahead);
#pragma GCC unroll 12
      for (int r = 0; r < rows; r++) {
        Vector<Real> factor = a.data[r * a.stride + k + p] - Vector<Real>{};
        sums[p][r][0] += factor * left;
        sums[p][r][1] += factor * right;
      }
    }
  }
  for (; k < a.columns; k++, panel += 2 * lanes) {
    Vector<Real> left = load(panel), right = load(panel + lanes);
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
      Vector<Real> factor = a.data[r * a.stride + k] - Vector<Real>{};
      sums[0][r][0] += factor * left;
      sums[0][r][1] += factor * right;
    }
  }
}

// to [rows, kTileColumns] = start + a · panel + b · (the rest of the panel); start may be null.
template <class Real, int rows>
static __attribute__((noinline)) void tile(Real* to, int64_t to_stride, const Real* start,
                                           Rows<Real> a, Rows<Real> b, const Real* panel) {
  constexpr int lanes = kLanes<Real>, parts = partial_sums(rows);
  Vector<Real> sums[parts][rows][2];
#pragma GCC unroll 4
  for (int p = 0; p < parts; p++) {
#pragma GCC unroll 12
    for (int r = 0; r < rows; r++) {
      sums[p][r][0] = p == 0 && start ? load(start) : Vector<Real>{};
      sums[p][r][1] = p == 0 && start ? load(start + lanes) : Vector<Real>{};
    }
  }
  accumulate<Real, rows, parts>(sums, a, panel);
  accumulate<Real, rows, parts>(sums, b, panel + a.columns * kTileColumns<Real>);
#pragma GCC unroll 12
  for (int r = 0; r < rows; r++) {
#pragma GCC unroll 4
    for (int p = 1; p < parts; p++) {
      sums[0][r][0] += sums[p][r][0];
      sums[0][r][1] += sums[p][r][1];
    }
    store(to + r * to_stride, sums[0][r][0]);
    store(to + r * to_stride + lanes, sums[0][r][1]);
  }
}

template <class Real>
using Tile = void (*)(Real*, int64_t, const Real*, Rows<Real>, Rows<Real>, const Real*);

// By the number of rows.
template <class Real>
static Tile<Real> tile_of(int64_t rows) {
  static constexpr Tile<Real> tiles[] = {
      nullptr,       tile<Real, 1>, tile<Real, 2>, tile<Real, 3>,  tile<Real, 4>,  tile<Real, 5>,
      tile<Real, 6>,
#if defined(__AVX512F__)
      tile<Real, 7>, tile<Real, 8>, tile<Real, 9>, tile<Real, 10>, tile<Real, 11>, tile<Real, 12>,
#endif
  };
  return tiles[rows];
}

// As ``tile``, for any number of rows, cut into tiles of about equal height.
template <class Real>
static void multiply(int64_t count, Real* to, int64_t to_stride, const Real* start, Rows<Real> a,
                     Rows<Real> b, const Real* panel) {
  int64_t tiles = (count + kTileRows - 1) / kTileRows, row = 0;
  for (int64_t i = 0; i < tiles; i++) {
    int64_t rows = count * (i + 1) / tiles - row;
    tile_of<Real>(rows)(to + row * to_stride, to_stride, start, a.from(row), b.from(row), panel);
    row += rows;
  }
}

// to [kTileRows, kTileColumns] += aᵀ b, with a packed [steps, kTileRows] and b [steps,
// kTileColumns].
template <class Real>
static __attribute__((noinline)) void add_outer(Real* to, int64_t to_stride, const Real* a,
                                                const Real* b, int64_t steps) {
  constexpr int lanes = kLanes<Real>;
  Vector<Real> sums[kTileRows][2];
#pragma GCC unroll 12
  for (int r = 0; r < kTileRows; r++) {
    sums[r][0] = load(to + r * to_stride);
    sums[r][1] = load(to + r * to_stride + lanes);
    // The rows of the tile that follows.
    prefetch(to + (r + kTileRows) * to_stride);
  }
  for (int64_t k = 0; k < steps; k++, a += kTileRows, b += 2 * lanes) {
    Vector<Real> left = load(b), right = load(b + lanes);
#pragma GCC unroll 12
    for (int r = 0; r < kTileRows; r++) {
      Vector<Real> factor = a[r] - Vector<Real>{};
      sums[r][0] += factor * left;
      sums[r][1] += factor * right;
    }
  }
#pragma GCC unroll 12
  for (int r = 0; r < kTileRows; r++) {
    store(to + r * to_stride, sums[r][0]);
    store(to + r * to_stride + lanes, sums[r][1]);
  }
}

}  // namespace RNNLAB_SET
}  // namespace rnnlab
