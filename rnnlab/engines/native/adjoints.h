// The adjoints of single steps, each example at its own power of two: the recursion of the backward
// pass, which writes down every λ and δ in place of summing gradients.
#pragma once

#include "cells.h"
#include "layer.h"

namespace rnnlab {
namespace RNNLAB_SET {

template <class Real>
struct Bits;
template <>
struct Bits<float> {
  typedef int32_t type;
  static constexpr int kMantissa = 23, kBias = 127;
};
template <>
struct Bits<double> {
  typedef int64_t type;
  static constexpr int kMantissa = 52, kBias = 1023;
};

// 2^exponent; 0 below the normal range.
template <class Real>
RNNLAB_INLINE Real power_of_two(int64_t exponent) {
  using B = Bits<Real>;
  int64_t biased = larger(0, smaller(exponent + B::kBias, 2 * B::kBias));
  typename B::type bits = static_cast<typename B::type>(biased) << B::kMantissa;
  Real power;
  __builtin_memcpy(&power, &bits, sizeof power);
  return power;
}

// The bits of the largest |x|: as integers they have the order of the numbers, NaN above all.
template <class Real>
RNNLAB_INLINE typename Bits<Real>::type largest_bits(const Real* x, int64_t count,
                                                     typename Bits<Real>::type largest) {
  using Word = typename Bits<Real>::type;
  constexpr Word kNoSign = static_cast<Word>(~(Word{1} << (8 * sizeof(Word) - 1)));
  for (int64_t j = 0; j < count; j++) {
    Word bits;
    __builtin_memcpy(&bits, x + j, sizeof bits);
    bits &= kNoSign;
    largest = bits > largest ? bits : largest;
  }
  return largest;
}

template <class Real, template <class> class Cell>
class Adjoints {
 public:
  using C = Cell<Real>;
  using V = Vector<Real>;
  static constexpr int kLane = kLanes<Real>;
  static constexpr int kWidth = kTileColumns<Real>;
  static constexpr int kGates = Shape<Real, Cell>::kGates;

  Adjoints(const AdjointSteps<Real>& steps, Block block, Real* scratch)
      : n_(steps), block_(block), shape_(steps.sizes), cell_(steps.options), scratch_(scratch) {
    int64_t padded = block_.count * shape_.padded_units;
    d_h_ = scratch_.take(padded);
    d_c_ = scratch_.take(padded);
    direct_h_ = scratch_.take(padded);
    deltas_ = scratch_.take(block_.count * shape_.columns);
  }

  static int64_t scratch(const Sizes& sizes, int64_t count) {
    AdjointSteps<Real> steps = {};
    steps.sizes = sizes;
    return Adjoints(steps, Block{0, count}, nullptr).scratch_.used();
  }

  void run(const Real* packed) {
    begin();
    for (int64_t step = n_.sizes.steps; step-- > 0;) {
      int64_t t = n_.options.reverse ? n_.sizes.steps - 1 - step : step;
      for (int64_t i = 0; i < block_.count; i++) enter(t, i);
      for (int64_t unit = 0; unit < shape_.padded_units; unit += kLane) {
        for (int64_t i = 0; i < block_.count; i++) step_back(t, i, unit);
      }
      multiply_back(shape_, block_.count, d_h_, shape_.padded_units, deltas_, packed);
      for (int64_t i = 0; i < block_.count; i++) leave(t, i);
    }
    end();
  }

 private:
  // The i-th example of the block among those of the batch.
  int64_t index(int64_t i) const { return block_.first + i; }
  int64_t mark(int64_t t, int64_t i) const { return t * n_.sizes.batch + index(i); }
  bool valid(int64_t t, int64_t i) const { return !n_.valid || n_.valid[mark(t, i)]; }
  Real* row(Real* from, int64_t i) const { return from + i * shape_.padded_units; }
  // That of the adjoint so far, which lies where the result will be.
  int32_t& exponent(int64_t i) const { return n_.first_exponent[index(i)]; }

  void begin() {
    __builtin_memset(d_h_, 0, block_.count * shape_.padded_units * sizeof(Real));
    __builtin_memset(d_c_, 0, block_.count * shape_.padded_units * sizeof(Real));
    for (int64_t i = 0; i < block_.count; i++) {
      copy(row(d_h_, i), n_.d_h + index(i) * shape_.units);
      if (C::kHasC) copy(row(d_c_, i), n_.d_c + index(i) * shape_.units);
      exponent(i) = n_.exponent[index(i)];
    }
  }
  void end() {
    for (int64_t i = 0; i < block_.count; i++) {
      copy(n_.first_h + index(i) * shape_.units, row(d_h_, i));
      if (C::kHasC) copy(n_.first_c + index(i) * shape_.units, row(d_c_, i));
    }
  }
  void copy(Real* to, const Real* from) const {
    __builtin_memcpy(to, from, shape_.units * sizeof(Real));
  }

  // The exponent at which the largest number of the adjoint lies in [1/2, 1).
  int64_t level(int64_t i) const {
    using B = Bits<Real>;
    auto bits = largest_bits(row(d_h_, i), shape_.units, typename B::type{0});
    if (C::kHasC) bits = largest_bits(row(d_c_, i), shape_.units, bits);
    if (bits == 0) return kNothing;
    int64_t shift = (bits >> B::kMantissa) - (B::kBias - 1);
    int64_t limit = B::kBias - 1;
    return exponent(i) + larger(-limit, smaller(limit, shift));
  }

  // Adds ∂L/∂y of the step, at a scale that suits the sum.
  void enter(int64_t t, int64_t i) {
    int64_t at = mark(t, i), common = larger(level(i), n_.g_exponent[at]);
    Real old = scale(exponent(i) - common), of_g = scale(n_.g_exponent[at] - common);
    const Real* g = n_.g + at * shape_.units;
    Real *d_h = row(d_h_, i), *d_c = row(d_c_, i);
    for (int64_t j = 0; j < shape_.units; j++) {
      d_h[j] = d_h[j] * old + g[j] * of_g;
      if (C::kHasC) d_c[j] *= old;
    }
    exponent(i) = static_cast<int32_t>(common);
    copy(n_.adjoint_h + at * shape_.units, d_h);
    if (C::kHasC) copy(n_.adjoint_c + at * shape_.units, d_c);
    n_.exponents[at] = exponent(i);
  }
  static Real scale(int64_t shift) {
    // Only a number that is zero could need a larger power, which would be infinite.
    return power_of_two<Real>(smaller(shift, Bits<Real>::kBias - 1));
  }

  void step_back(int64_t t, int64_t i, int64_t unit) {
    int64_t count = shape_.units - unit, at = mark(t, i), from = at * shape_.units + unit;
    State<V> d = {load(row(d_h_, i) + unit), C::kHasC ? load(row(d_c_, i) + unit) : V{}};
    Derivative<V, kGates> result = {};
    if (valid(t, i)) {
      V kept[C::kKept + 1];
      const Real* gates = n_.gates + at * shape_.kept() + unit * C::kKept;
      for (int q = 0; q < C::kKept; q++) kept[q] = load(gates + q * kLane);
      State<V> old = load_state<Real, C>(n_.old_h, n_.old_c, from, count);
      State<V> state = load_state<Real, C>(n_.hs, n_.cs, from, count);
      result = cell_.adjoint(kept, old, state, d);
    } else {
      result.old = d;
    }
    int64_t columns[kGates];
    gate_columns(shape_, unit, columns);
    Real* to = n_.deltas + at * kGates * shape_.units + unit;
    for (int q = 0; q < kGates; q++) {
      store(deltas_ + i * shape_.columns + columns[q], result.z[q]);
      if (count > 0) store(to + q * shape_.units, result.z[q], count);
    }
    store(row(direct_h_, i) + unit, result.old.h);
    if (C::kHasC) store(row(d_c_, i) + unit, result.old.c);
  }

  // After the products: what passes beside them, and resets.
  void leave(int64_t t, int64_t i) {
    Real *d_h = row(d_h_, i), *d_c = row(d_c_, i), *direct = row(direct_h_, i);
    bool reset = n_.resets && valid(t, i) && n_.resets[mark(t, i)];
    for (int64_t j = 0; j < shape_.padded_units; j++) {
      d_h[j] = reset ? Real(0) : d_h[j] + direct[j];
      if (C::kHasC && reset) d_c[j] = Real(0);
    }
  }

  const AdjointSteps<Real> n_;
  const Block block_;
  const Shape<Real, Cell> shape_;
  const C cell_;
  Scratch<Real> scratch_;
  Real *d_h_, *d_c_;  // [count, padded H], the adjoint
  Real* direct_h_;    // [count, padded H], what passes beside the products
  Real* deltas_;      // [count, columns]
};

template <class Real, template <class> class Cell>
static int64_t adjoint_weights(const Sizes& sizes) {
  Sizes without_inputs = sizes;
  without_inputs.inputs = 0;
  return backward_weights<Real, Cell>(without_inputs);
}

template <class Real, template <class> class Cell>
static void pack_adjoint(const AdjointSteps<Real>& steps, Real* to) {
  Shape<Real, Cell> shape(steps.sizes);
  pack_transposed(to, steps.w_h, shape.units, shape.state_row_length(), shape.joint, shape.hidden,
                  shape.units);
}

}  // namespace RNNLAB_SET
}  // namespace rnnlab
