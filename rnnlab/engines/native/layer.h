// Both passes of a layer over a block of the batch, through all steps: blocks need nothing of one
// another, so threads never wait for each other at a step.
#pragma once

#include "cells.h"
#include "packing.h"

namespace rnnlab {
namespace RNNLAB_SET {

// So many rows (steps times examples) of δ and [x, h] stay in the cache until one product adds them
// to the gradient of the weights.
constexpr int64_t kChunkRows = 192;

// Gives out pieces of one allocation; with null it only counts.
template <class Real>
class Scratch {
 public:
  explicit Scratch(Real* from) : from_(from) {}
  Real* take(int64_t count) {
    Real* piece = from_ ? from_ + used_ : nullptr;
    // Whole cache lines.
    used_ += round_up(count, 64 / sizeof(Real));
    return piece;
  }
  int64_t used() const { return used_; }

 private:
  Real* from_;
  int64_t used_ = 0;
};

template <class Real, class C>
RNNLAB_INLINE State<Vector<Real>> load_state(const Real* h, const Real* c, int64_t offset,
                                             int64_t count) {
  if (count <= 0) return {Vector<Real>{}, Vector<Real>{}};
  return {load(h + offset, count), C::kHasC ? load(c + offset, count) : Vector<Real>{}};
}

// The packed column of each gate's vector of units.
template <class Real, template <class> class Cell>
RNNLAB_INLINE void gate_columns(const Shape<Real, Cell>& shape, int64_t unit, int64_t* columns) {
  using C = Cell<Real>;
  constexpr int lanes = kLanes<Real>;
  int64_t input_at = shape.joint.columns(), hidden_at = input_at + shape.input.columns();
  for (int q = 0; q < C::kJoint; q++) *columns++ = unit * C::kJoint + q * lanes;
  for (int q = 0; q < C::kInput; q++) *columns++ = input_at + unit * C::kInput + q * lanes;
  for (int q = 0; q < C::kHidden; q++) *columns++ = hidden_at + unit * C::kHidden + q * lanes;
}

// ∂L/∂h = δ W_hᵀ, [count, padded H], from the packed columns of δ.
template <class Real, template <class> class Cell>
static void multiply_back(const Shape<Real, Cell>& shape, int64_t count, Real* to,
                          int64_t to_stride, const Real* deltas, const Real* panel) {
  constexpr int width = kTileColumns<Real>;
  const int64_t joint = shape.joint.columns(), hidden = shape.hidden.columns();
  const Rows<Real> of_joint{deltas, shape.columns, joint};
  const Rows<Real> of_hidden{deltas + joint + shape.input.columns(), shape.columns, hidden};
  for (int64_t column = 0; column < shape.state_columns; column += width, to += width) {
    multiply(count, to, to_stride, (const Real*)nullptr, of_joint, of_hidden, panel);
    panel += (joint + hidden) * width;
  }
}

template <class Real, template <class> class Cell>
class Layer {
 public:
  using C = Cell<Real>;
  using V = Vector<Real>;
  static constexpr int kLane = kLanes<Real>;
  static constexpr int kWidth = kTileColumns<Real>;
  static constexpr int kGates = Shape<Real, Cell>::kGates;

  Layer(const Network<Real>& network, Block block, Real* scratch)
      : n_(network),
        block_(block),
        shape_(network.sizes),
        cell_(network.options),
        scratch_(scratch) {
    int64_t states = block_.count * shape_.units;
    z_ = scratch_.take(block_.count * kGates * kWidth);
    start_h_ = scratch_.take(states);
    start_c_ = scratch_.take(C::kHasC ? states : 0);
  }

  static int64_t forward_scratch(const Sizes& sizes, int64_t count) {
    return counting(sizes, count).scratch_.used();
  }
  static int64_t backward_scratch(const Sizes& sizes, int64_t count) {
    Layer layer = counting(sizes, count);
    layer.take_backward();
    return layer.scratch_.used();
  }

  void forward(const Real* packed) {
    ForwardWeights<Real, Cell> weights(n_.sizes, packed);
    if (C::kHasC && n_.only_final_c) copy(n_.cs + at(0, 0), n_.c0 + at(0, 0), block_.count);
    for (int64_t step = 0; step < n_.sizes.steps; step++) {
      int64_t t = time(step);
      Start start = start_of(step);
      Real* h = n_.hs + at(t, 0);
      Real* c = C::kHasC ? cs_after(t) : nullptr;
      Real* kept =
          n_.gates ? n_.gates + (t * n_.sizes.batch + block_.first) * shape_.kept() : nullptr;
      keep_where_invalid(step, h, c, kept);
      one_step(weights, t, start, h, c, kept);
    }
  }

  void backward(const Real* packed_forward, const Real* packed_backward, Real* sums) {
    ForwardWeights<Real, Cell> weights(n_.sizes, packed_forward);
    take_backward();
    begin_backward();
    int64_t most = chunk_steps();
    for (int64_t end = n_.sizes.steps; end > 0;) {
      int64_t begin = larger(0, end - most);
      chunk_rows_ = (end - begin) * block_.count;
      for (int64_t step = end; step-- > begin;) {
        one_step_back(weights, packed_backward, step, step - begin, sums);
      }
      add_weight_gradients(sums);
      end = begin;
    }
    end_backward();
  }

 private:
  // The state that a step starts from, [count, H].
  struct Start {
    const Real *h, *c;
  };

  static Layer counting(const Sizes& sizes, int64_t count) {
    Network<Real> network = {};
    network.sizes = sizes;
    return Layer(network, Block{0, count}, nullptr);
  }

  // The time of a step; steps are counted in the direction of the run.
  int64_t time(int64_t step) const { return n_.options.reverse ? n_.sizes.steps - 1 - step : step; }
  // Where an example of the block starts in an array [T, B, H].
  int64_t at(int64_t t, int64_t row) const {
    return (t * n_.sizes.batch + block_.first + row) * shape_.units;
  }
  int64_t mark(int64_t t, int64_t row) const { return t * n_.sizes.batch + block_.first + row; }
  bool valid(int64_t t, int64_t row) const { return !n_.valid || n_.valid[mark(t, row)]; }
  bool reset(int64_t t, int64_t row) const {
    return n_.resets && n_.resets[mark(t, row)] && valid(t, row);
  }
  Real* cs_after(int64_t t) const { return n_.cs + at(n_.only_final_c ? 0 : t, 0); }
  void copy(Real* to, const Real* from, int64_t rows) const {
    __builtin_memcpy(to, from, rows * shape_.units * sizeof(Real));
  }

  // The state after the step before, whatever is reset.
  Start before(int64_t step) const {
    if (step == 0) {
      // In place, the first state was copied to where the last will be.
      const Real* c = C::kHasC ? (n_.only_final_c ? n_.cs : n_.c0) + at(0, 0) : nullptr;
      return {n_.h0 + at(0, 0), c};
    }
    int64_t t = time(step - 1);
    return {n_.hs + at(t, 0), C::kHasC ? cs_after(t) : nullptr};
  }

  Start start_of(int64_t step) const {
    Start start = before(step);
    if (!n_.resets) return start;
    int64_t t = time(step);
    for (int64_t row = 0; row < block_.count; row++) {
      int64_t offset = row * shape_.units;
      bool again = reset(t, row);
      copy(start_h_ + offset, again ? n_.reset_h + at(0, row) : start.h + offset, 1);
      if (C::kHasC) copy(start_c_ + offset, again ? n_.reset_c + at(0, row) : start.c + offset, 1);
    }
    return {start_h_, start_c_};
  }

  void keep_where_invalid(int64_t step, Real* h, Real* c, Real* kept) const {
    if (!n_.valid) return;
    Start old = before(step);
    for (int64_t row = 0; row < block_.count; row++) {
      if (valid(time(step), row)) continue;
      int64_t offset = row * shape_.units;
      copy(h + offset, old.h + offset, 1);
      if (C::kHasC && !n_.only_final_c) copy(c + offset, old.c + offset, 1);
      // Nothing reads these, but jax_debug_nans looks at all that a call returns.
      if (kept) zero(kept + row * shape_.kept(), shape_.kept());
    }
  }

  // The products and gates of a step. h, c and kept may be null, where nobody wants them.
  void one_step(const ForwardWeights<Real, Cell>& weights, int64_t t, Start start, Real* h, Real* c,
                Real* kept) const {
    // A tile of each gate covers two vectors of units.
    for (int64_t pair = 0; pair < shape_.padded_units / kWidth; pair++) {
      products(weights, t, start, pair);
      for (int64_t row = 0; row < block_.count; row++) {
        if (!valid(t, row)) continue;
        for (int half = 0; half < 2; half++) gates(pair, half, row, start, h, c, kept);
      }
    }
  }

  // z of two vectors of units, all gates and all examples.
  void products(const ForwardWeights<Real, Cell>& weights, int64_t t, Start start,
                int64_t pair) const {
    const int64_t count = block_.count, stride = kGates * kWidth;
    const Real* xs = n_.xs + (t * n_.sizes.batch + block_.first) * shape_.inputs;
    const Rows<Real> x{xs, shape_.inputs, shape_.inputs};
    const Rows<Real> h{start.h, shape_.units, shape_.units};
    const Rows<Real> none{start.h, 0, 0};
    Real* to = z_;
    for (int q = 0; q < C::kJoint; q++, to += kWidth) {
      int64_t panel = pair * C::kJoint + q;
      multiply(count, to, stride, weights.joint_bias(panel), x, h, weights.joint_panel(panel));
    }
    for (int q = 0; q < C::kInput; q++, to += kWidth) {
      int64_t panel = pair * C::kInput + q;
      multiply(count, to, stride, weights.input_bias(panel), x, none, weights.input_panel(panel));
    }
    for (int q = 0; q < C::kHidden; q++, to += kWidth) {
      int64_t panel = pair * C::kHidden + q;
      multiply(count, to, stride, weights.hidden_bias(panel), h, none, weights.hidden_panel(panel));
    }
  }

  // The gates of one vector of units of one example, from z_.
  RNNLAB_MEMBER void gates(int64_t pair, int half, int64_t row, Start start, Real* h, Real* c,
                           Real* kept_to) const {
    int64_t group = 2 * pair + half, unit = group * kLane, count = shape_.units - unit;
    if (count <= 0 && !kept_to) return;
    const Real* from = z_ + row * kGates * kWidth;
    V z[kGates];
    for (int q = 0; q < C::kJoint; q++) z[q] = load(from + (half * C::kJoint + q) * kLane);
    from += C::kJoint * kWidth;
    for (int q = 0; q < C::kInput; q++) {
      z[C::kJoint + q] = load(from + (half * C::kInput + q) * kLane);
    }
    from += C::kInput * kWidth;
    for (int q = 0; q < C::kHidden; q++) {
      z[C::kJoint + C::kInput + q] = load(from + (half * C::kHidden + q) * kLane);
    }
    int64_t offset = row * shape_.units + unit;
    State<V> old = load_state<Real, C>(start.h, start.c, offset, count);
    V kept[C::kKept + 1];
    State<V> state = cell_.gate(z, old, kept);
    if (kept_to) {
      Real* to = kept_to + row * shape_.kept() + group * C::kKept * kLane;
      // An infinite input times a weight that is padding is NaN: it must not reach a sum.
      for (int q = 0; q < C::kKept; q++) store(to + q * kLane, beginning(kept[q], count));
    }
    if (count <= 0) return;
    if (h) store(h + offset, state.h, count);
    if (C::kHasC && c) store(c + offset, state.c, count);
  }

  // The first ``count`` numbers, and zeros.
  static RNNLAB_MEMBER V beginning(V v, int64_t count) {
    if (count >= kLane) return v;
    V part = {};
    for (int64_t i = 0; i < count; i++) part[i] = v[i];
    return part;
  }

  // ---- The backward pass ----

  int64_t chunk_steps() const {
    return larger(1, smaller(n_.sizes.steps, kChunkRows / block_.count));
  }

  void take_backward() {
    int64_t count = block_.count, rows = chunk_steps() * count;
    deltas_ = scratch_.take(count * shape_.columns);
    chunk_deltas_ = scratch_.take(rows * shape_.columns);
    chunk_factors_ = scratch_.take(rows * shape_.rows());
    products_ = scratch_.take(count * (shape_.input_columns + shape_.state_columns));
    direct_h_ = scratch_.take(count * shape_.padded_units);
    d_c_ = scratch_.take(C::kHasC ? count * shape_.padded_units : 0);
    recomputed_ = scratch_.take(count * shape_.kept());
  }

  int64_t product_stride() const { return shape_.input_columns + shape_.state_columns; }
  // ∂L/∂h by the products of an example, padded.
  Real* d_h_of(int64_t row) const {
    return products_ + row * product_stride() + shape_.input_columns;
  }
  Real* direct_of(int64_t row) const { return direct_h_ + row * shape_.padded_units; }
  Real* d_c_of(int64_t row) const { return d_c_ + row * shape_.padded_units; }

  void begin_backward() {
    zero(products_, block_.count * product_stride());
    zero(direct_h_, block_.count * shape_.padded_units);
    if (C::kHasC) zero(d_c_, block_.count * shape_.padded_units);
    for (int64_t row = 0; row < block_.count; row++) {
      copy(d_h_of(row), n_.d_h + at(0, row), 1);
      if (C::kHasC) copy(d_c_of(row), n_.d_c + at(0, row), 1);
      if (!n_.resets) continue;
      zero(n_.d_reset_h + at(0, row), shape_.units);
      if (C::kHasC) zero(n_.d_reset_c + at(0, row), shape_.units);
    }
  }

  void one_step_back(const ForwardWeights<Real, Cell>& forward, const Real* packed, int64_t step,
                     int64_t step_in_chunk, Real* sums) {
    int64_t t = time(step);
    Start start = start_of(step);
    const Real* kept = recomputed_;
    if (n_.gates) {
      kept = n_.gates + (t * n_.sizes.batch + block_.first) * shape_.kept();
    } else if (C::kKept) {
      one_step(forward, t, start, nullptr, nullptr, recomputed_);
    }
    Real* bias_sums = sums + shape_.rows() * shape_.columns;
    int64_t first_row = step_in_chunk * block_.count;
    for (int64_t unit = 0; unit < shape_.padded_units; unit += kLane) {
      adjoints(t, unit, start, kept, first_row, bias_sums);
    }
    pack_factors(t, start, first_row);
    products_back(packed);
    if (n_.d_xs) {
      for (int64_t row = 0; row < block_.count; row++) {
        Real* to = n_.d_xs + (t * n_.sizes.batch + block_.first + row) * shape_.inputs;
        __builtin_memcpy(to, products_ + row * product_stride(), shape_.inputs * sizeof(Real));
      }
    }
    divert_where_reset(t);
  }

  // δ of one vector of units of all examples, from ∂L/∂(state after the step).
  void adjoints(int64_t t, int64_t unit, Start start, const Real* kept_from, int64_t first_row,
                Real* bias_sums) {
    int64_t columns[kGates];
    gate_columns(shape_, unit, columns);
    V sums[kGates] = {};
    int64_t count = shape_.units - unit;
    for (int64_t row = 0; row < block_.count; row++) {
      State<V> d = entering(t, row, unit, count);
      Derivative<V, kGates> result = {};
      if (valid(t, row)) {
        V kept[C::kKept + 1];
        const Real* from = kept_from + row * shape_.kept() + unit * C::kKept;
        for (int q = 0; q < C::kKept; q++) kept[q] = load(from + q * kLane);
        State<V> old = load_state<Real, C>(start.h, start.c, row * shape_.units + unit, count);
        State<V> state = load_state<Real, C>(n_.hs, n_.cs, at(t, row) + unit, count);
        result = cell_.adjoint(kept, old, state, d);
      } else {
        result.old = d;
      }
      if (C::kHasC) store(d_c_of(row) + unit, result.old.c);
      if (C::kDirect || n_.valid) store(direct_of(row) + unit, result.old.h);
      for (int q = 0; q < kGates; q++) {
        store(deltas_ + row * shape_.columns + columns[q], result.z[q]);
        store(chunk_delta(columns[q], first_row + row), result.z[q]);
        sums[q] += result.z[q];
      }
    }
    for (int q = 0; q < kGates; q++) {
      store(bias_sums + columns[q], load(bias_sums + columns[q]) + sums[q]);
    }
  }

  // ∂L/∂(state after step t): what comes from later steps, and from the outputs of this one.
  RNNLAB_MEMBER State<V> entering(int64_t t, int64_t row, int64_t unit, int64_t count) const {
    State<V> d = {load(d_h_of(row) + unit), V{}};
    if (C::kDirect || n_.valid) d.h += load(direct_of(row) + unit);
    if (C::kHasC) d.c = load(d_c_of(row) + unit);
    if (count > 0) {
      d.h += load(n_.d_hs + at(t, row) + unit, count);
      if (C::kHasC && n_.d_cs) d.c += load(n_.d_cs + at(t, row) + unit, count);
    }
    return d;
  }

  Real* chunk_delta(int64_t column, int64_t row) const {
    return chunk_deltas_ + (column / kWidth * chunk_rows_ + row) * kWidth + column % kWidth;
  }

  // [x, h] of the step, for the product over the chunk.
  void pack_factors(int64_t t, Start start, int64_t first_row) {
    for (int64_t row = 0; row < block_.count; row++) {
      Real* to = chunk_factors_ + (first_row + row) * kTileRows;
      const Real* x = n_.xs + (t * n_.sizes.batch + block_.first + row) * shape_.inputs;
      to = pack_factors(to, x, shape_.inputs);
      pack_factors(to, start.h + row * shape_.units, shape_.units);
    }
  }
  Real* pack_factors(Real* to, const Real* from, int64_t count) const {
    for (int64_t first = 0; first < count; first += kTileRows, to += chunk_rows_ * kTileRows) {
      int64_t here = smaller(kTileRows, count - first);
      if (here == kTileRows) {
        __builtin_memcpy(to, from + first, kTileRows * sizeof(Real));
        continue;
      }
      for (int64_t i = 0; i < kTileRows; i++) to[i] = i < here ? from[first + i] : Real(0);
    }
    return to;
  }

  // ∂L/∂[x, h] = δ Wᵀ, of one step.
  void products_back(const Real* panel) {
    const int64_t columns = shape_.joint.columns() + shape_.input.columns();
    const Rows<Real> of_inputs{deltas_, shape_.columns, columns};
    const Rows<Real> none{deltas_, 0, 0};
    Real* to = products_;
    for (int64_t column = 0; column < shape_.input_columns; column += kWidth, to += kWidth) {
      if (n_.d_xs) {
        multiply(block_.count, to, product_stride(), (const Real*)nullptr, of_inputs, none, panel);
      }
      panel += columns * kWidth;
    }
    multiply_back(shape_, block_.count, to, product_stride(), deltas_, panel);
  }

  // A reset passes the adjoint on to the state after a reset, and nothing to the step before.
  void divert_where_reset(int64_t t) {
    if (!n_.resets) return;
    for (int64_t row = 0; row < block_.count; row++) {
      if (!reset(t, row)) continue;
      for (int64_t j = 0; j < shape_.units; j++) {
        n_.d_reset_h[at(0, row) + j] += d_h_of(row)[j] + direct_h(row, j);
        if (C::kHasC) n_.d_reset_c[at(0, row) + j] += d_c_of(row)[j];
      }
      zero(d_h_of(row), shape_.padded_units);
      zero(direct_of(row), shape_.padded_units);
      if (C::kHasC) zero(d_c_of(row), shape_.padded_units);
    }
  }
  Real direct_h(int64_t row, int64_t j) const {
    return C::kDirect || n_.valid ? direct_of(row)[j] : Real(0);
  }

  // ∂L/∂[w_x; w_h] += [x, h]ᵀ δ, for all rows of the chunk.
  void add_weight_gradients(Real* sums) const {
    int64_t input_at = shape_.joint.columns(), hidden_at = input_at + shape_.input.columns();
    for (int64_t column = 0; column < shape_.columns; column += kWidth) {
      bool sees_inputs = column < hidden_at, sees_states = column < input_at || column >= hidden_at;
      int64_t first = sees_inputs ? 0 : shape_.input_rows;
      int64_t end = sees_states ? shape_.rows() : shape_.input_rows;
      const Real* deltas = chunk_deltas_ + column * chunk_rows_;
      for (int64_t row = first; row < end; row += kTileRows) {
        add_outer(sums + row * shape_.columns + column, shape_.columns,
                  chunk_factors_ + row * chunk_rows_, deltas, chunk_rows_);
      }
    }
  }

  void end_backward() const {
    for (int64_t row = 0; row < block_.count; row++) {
      for (int64_t j = 0; j < shape_.units; j++) {
        n_.d_h0[at(0, row) + j] = d_h_of(row)[j] + direct_h(row, j);
      }
      if (C::kHasC) copy(n_.d_c0 + at(0, row), d_c_of(row), 1);
    }
  }

  static void zero(Real* to, int64_t count) { __builtin_memset(to, 0, count * sizeof(Real)); }

  const Network<Real> n_;
  const Block block_;
  const Shape<Real, Cell> shape_;
  const C cell_;
  Scratch<Real> scratch_;
  Real* z_;                   // [count, gates, 2 vectors], of the tile at work
  Real *start_h_, *start_c_;  // [count, H], where some are reset
  // Of the backward pass.
  int64_t chunk_rows_ = 0;
  Real* deltas_;         // δ of one step, [count, columns]
  Real* chunk_deltas_;   // [columns / width, rows of the chunk, width]
  Real* chunk_factors_;  // [rows of [x, h] / tile rows, rows of the chunk, tile rows]
  Real* products_;       // ∂L/∂[x, h] by the products, [count, padded I + padded H]
  Real* direct_h_;       // ∂L/∂h beside the products, [count, padded H]
  Real* d_c_;            // [count, padded H]
  Real* recomputed_;     // gates of one step, where they were not kept
};

}  // namespace RNNLAB_SET
}  // namespace rnnlab
