// Weights in the order in which the kernels read them, and their gradients back in that of the
// cell.
//
// The columns of all gates are cut into vectors of kLanes units, and the vectors of the gates of
// the same units lie side by side, so that all gates of some units are there at once:
//
//   w_x, w_h      i i i i  f f f f  g g g g  o o o o      one letter: kLanes units of a gate
//   packed        i f g o  i f g o  i f g o  i f g o      units are padded to whole tiles
//
// There are three regions: gates that see x and h, x alone, and h alone.
#pragma once

#include "interface.h"
#include "products.h"

namespace rnnlab {
namespace RNNLAB_SET {

// Some gates with packed columns.
struct Region {
  int64_t first_gate;  // among those of the weight matrix
  int64_t gates;
  int64_t padded_units;  // of one gate

  int64_t columns() const { return gates * padded_units; }
};

// The sizes of a cell with padding.
template <class Real, template <class> class Cell>
struct Shape {
  using C = Cell<Real>;
  static constexpr int kGates = C::kJoint + C::kInput + C::kHidden;

  int64_t inputs, units, padded_units;
  // The regions of w_x are joint and input, those of w_h joint and hidden.
  Region joint, input, hidden;
  int64_t columns;  // of all regions
  // ∂L/∂[x, h] by columns, and the rows of ∂L/∂[w_x; w_h], each padded to whole tiles.
  int64_t input_columns, state_columns, input_rows, state_rows;

  explicit Shape(const Sizes& sizes)
      : inputs(sizes.inputs),
        units(sizes.units),
        padded_units(round_up(sizes.units, kTileColumns<Real>)),
        joint{0, C::kJoint, padded_units},
        input{C::kJoint, C::kInput, padded_units},
        hidden{C::kJoint, C::kHidden, padded_units},
        columns(kGates * padded_units),
        input_columns(round_up(sizes.inputs, kTileColumns<Real>)),
        state_columns(padded_units),
        input_rows(round_up(sizes.inputs, kTileRows)),
        state_rows(round_up(sizes.units, kTileRows)) {}

  int64_t rows() const { return input_rows + state_rows; }
  int64_t kept() const { return C::kKept * padded_units; }
  int64_t input_row_length() const { return (C::kJoint + C::kInput) * units; }
  int64_t state_row_length() const { return (C::kJoint + C::kHidden) * units; }
};

// The vector of a region that starts at a packed column: where it lies in a row of the weights, and
// how many of its numbers are no padding.
template <class Real>
struct Place {
  int64_t column, count;

  Place(const Region& region, int64_t packed_column, int64_t units) {
    int64_t vector = packed_column / kLanes<Real>;
    int64_t unit = vector / region.gates * kLanes<Real>;
    column = (region.first_gate + vector % region.gates) * units + unit;
    count = larger(0, smaller(kLanes<Real>, units - unit));
  }
};

// A row of weights, packed: one panel's part of it.
template <class Real>
RNNLAB_INLINE void pack_row(Real* to, const Real* row, const Region& region, int64_t panel,
                            int64_t units) {
  for (int64_t half = 0; half < kTileColumns<Real>; half += kLanes<Real>) {
    Place<Real> place(region, panel * kTileColumns<Real> + half, units);
    store(to + half, load(row + place.column, place.count));
  }
}

// For z = [x, h] W: panels of columns, with a row for each input and each unit. Then the biases.
template <class Real, template <class> class Cell>
struct ForwardWeights {
  const Real *joint, *input, *hidden, *bias;
  Shape<Real, Cell> shape;

  ForwardWeights(const Sizes& sizes, const Real* packed) : shape(sizes) {
    joint = packed;
    input = joint + (shape.inputs + shape.units) * shape.joint.columns();
    hidden = input + shape.inputs * shape.input.columns();
    bias = hidden + shape.units * shape.hidden.columns();
  }
  static int64_t size(const Sizes& sizes) {
    ForwardWeights weights(sizes, nullptr);
    return weights.bias - weights.joint + weights.shape.columns;
  }
  const Real* joint_panel(int64_t panel) const {
    return joint + panel * (shape.inputs + shape.units) * kTileColumns<Real>;
  }
  const Real* input_panel(int64_t panel) const {
    return input + panel * shape.inputs * kTileColumns<Real>;
  }
  const Real* hidden_panel(int64_t panel) const {
    return hidden + panel * shape.units * kTileColumns<Real>;
  }
  const Real* joint_bias(int64_t panel) const { return bias + panel * kTileColumns<Real>; }
  const Real* input_bias(int64_t panel) const { return joint_bias(panel) + shape.joint.columns(); }
  const Real* hidden_bias(int64_t panel) const { return input_bias(panel) + shape.input.columns(); }
};

template <class Real, template <class> class Cell>
static void pack_forward(const Network<Real>& network, Real* to) {
  constexpr int width = kTileColumns<Real>;
  Shape<Real, Cell> shape(network.sizes);
  auto pack = [&](const Region& region, bool with_inputs, bool with_states) {
    for (int64_t panel = 0; panel < region.columns() / width; panel++) {
      for (int64_t i = 0; with_inputs && i < shape.inputs; i++, to += width) {
        const Real* row = network.w_x + i * shape.input_row_length();
        pack_row(to, row, region, panel, shape.units);
      }
      for (int64_t j = 0; with_states && j < shape.units; j++, to += width) {
        const Real* row = network.w_h + j * shape.state_row_length();
        pack_row(to, row, region, panel, shape.units);
      }
    }
  };
  pack(shape.joint, true, true);
  pack(shape.input, true, false);
  pack(shape.hidden, false, true);
  // The biases are one row, of the gates in this order.
  Region in_bias = shape.hidden;
  in_bias.first_gate += shape.input.gates;
  const Region regions[] = {shape.joint, shape.input, in_bias};
  for (const Region& region : regions) {
    for (int64_t panel = 0; panel < region.columns() / width; panel++, to += width) {
      pack_row(to, network.bias, region, panel, shape.units);
    }
  }
}

// For ∂L/∂[x, h] = δ Wᵀ: panels of inputs, then of units, with a row for each packed column.
template <class Real, template <class> class Cell>
static int64_t backward_weights(const Sizes& sizes) {
  Shape<Real, Cell> shape(sizes);
  return shape.input_columns * (shape.joint.columns() + shape.input.columns()) +
         shape.state_columns * (shape.joint.columns() + shape.hidden.columns());
}

// The transpose of ``rows`` rows of a weight matrix, whose second region follows the joint one.
template <class Real>
static Real* pack_transposed(Real* to, const Real* weights, int64_t rows, int64_t row_length,
                             const Region& joint, const Region& second, int64_t units) {
  constexpr int width = kTileColumns<Real>;
  const Region regions[] = {joint, second};
  for (int64_t first = 0; first < rows; first += width) {
    for (const Region& region : regions) {
      for (int64_t column = 0; column < region.columns(); column += kLanes<Real>) {
        Place<Real> place(region, column, units);
        for (int64_t lane = 0; lane < kLanes<Real>; lane++, to += width) {
          for (int64_t i = 0; i < width; i++) {
            bool inside = lane < place.count && first + i < rows;
            to[i] = inside ? weights[(first + i) * row_length + place.column + lane] : Real(0);
          }
        }
      }
    }
  }
  return to;
}

template <class Real, template <class> class Cell>
static void pack_backward(const Network<Real>& network, Real* to) {
  Shape<Real, Cell> shape(network.sizes);
  to = pack_transposed(to, network.w_x, shape.inputs, shape.input_row_length(), shape.joint,
                       shape.input, shape.units);
  pack_transposed(to, network.w_h, shape.units, shape.state_row_length(), shape.joint, shape.hidden,
                  shape.units);
}

// The sums of a group of blocks: ∂L/∂[w_x; w_h] with packed columns, then ∂L/∂bias.
template <class Real, template <class> class Cell>
static int64_t sums_size(const Sizes& sizes) {
  Shape<Real, Cell> shape(sizes);
  return (shape.rows() + 1) * shape.columns;
}

// A packed row of all groups, added up, to one region of a row of the weights.
template <class Real>
static void unpack_row(Real* to, const Real* sums, int64_t groups, int64_t group_size,
                       const Region& region, int64_t units) {
  for (int64_t column = 0; column < region.columns(); column += kLanes<Real>) {
    Vector<Real> sum = load(sums + column);
    for (int64_t group = 1; group < groups; group++) {
      sum += load(sums + group * group_size + column);
    }
    Place<Real> place(region, column, units);
    if (place.count > 0) store(to + place.column, sum, place.count);
  }
}

template <class Real, template <class> class Cell>
static void total(const Network<Real>& network, const Real* sums, int64_t groups) {
  Shape<Real, Cell> shape(network.sizes);
  int64_t group_size = sums_size<Real, Cell>(network.sizes);
  int64_t input_at = shape.joint.columns(), hidden_at = input_at + shape.input.columns();
  auto unpack = [&](Real* to, const Real* from, const Region& region) {
    unpack_row(to, from, groups, group_size, region, shape.units);
  };
  for (int64_t i = 0; i < shape.inputs; i++) {
    const Real* from = sums + i * shape.columns;
    Real* to = network.d_w_x + i * shape.input_row_length();
    unpack(to, from, shape.joint);
    unpack(to, from + input_at, shape.input);
  }
  for (int64_t j = 0; j < shape.units; j++) {
    const Real* from = sums + (shape.input_rows + j) * shape.columns;
    Real* to = network.d_w_h + j * shape.state_row_length();
    unpack(to, from, shape.joint);
    unpack(to, from + hidden_at, shape.hidden);
  }
  const Real* from = sums + shape.rows() * shape.columns;
  Region in_bias = shape.hidden;
  in_bias.first_gate += shape.input.gates;
  unpack(network.d_bias, from, shape.joint);
  unpack(network.d_bias, from + input_at, shape.input);
  unpack(network.d_bias, from + hidden_at, in_bias);
}

}  // namespace RNNLAB_SET
}  // namespace rnnlab
