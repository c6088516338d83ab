// What the kernels of all instruction sets have in common with the calls from XLA.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rnnlab {

enum class CellKind : int64_t { kRnn, kLeakyRnn, kLstm, kGru };
enum class Activation : int64_t { kTanh, kRelu, kSigmoid, kIdentity };

// T, B, I and H.
struct Sizes {
  int64_t steps, batch, inputs, units;
};

// What is fixed while tracing.
struct Options {
  CellKind cell;
  Activation activation;  // φ of an RNN
  double alpha;           // α of a leaky RNN
  bool reverse;           // runs from the last step to the first
};

// One network and one batch of sequences: the arguments and results of both passes. An absent array
// is null. G = J + X + A is the number of gates: J of them see x W_x + h W_h, X see x W_x alone,
// and A see h W_h alone.
template <class Real>
struct Network {
  Sizes sizes;
  Options options;

  const Real* xs;                 // [T, B, I]
  const Real *h0, *c0;            // [B, H], before the first step
  const Real* w_x;                // [I, (J + X) H]
  const Real* w_h;                // [H, (J + A) H]
  const Real* bias;               // [G H]
  const uint8_t* valid;           // [T, B]; a step that is not valid leaves the state as it is
  const uint8_t* resets;          // [T, B]; where the state is replaced before the step
  const Real *reset_h, *reset_c;  // [B, H], by these

  // Results of the forward pass, arguments of the backward pass.
  Real* hs;  // [T, B, H], after each step
  Real* cs;  // [T, B, H]; [B, H] of the last step alone, where only_final_c
  bool only_final_c;
  Real* gates;  // [T, B, kept gates · padded H]; null where they are not kept

  // Of the backward pass alone: derivatives of the loss.
  const Real *d_hs, *d_cs;  // [T, B, H]
  const Real *d_h, *d_c;    // [B, H], of the final state
  Real* d_xs;               // null where it is not wanted
  Real *d_h0, *d_c0, *d_reset_h, *d_reset_c;
  Real *d_w_x, *d_w_h, *d_bias;
};

// The adjoints of some steps, for instruments. A number is mantissa · 2^exponent, with one exponent
// for each example, which every step chooses anew. All arrays are in the order of time.
template <class Real>
struct AdjointSteps {
  Sizes sizes;  // steps, examples and units; the number of inputs is 0
  Options options;

  const Real *old_h, *old_c;      // [n, B, H], from which each step started
  const Real *hs, *cs;            // [n, B, H], after each step
  const Real* gates;              // [n, B, kept]
  const Real* w_h;                // [H, (J + A) H]
  const uint8_t *valid, *resets;  // [n, B], may be null
  const Real* g;                  // [n, B, H], ∂L/∂y of each step
  const int32_t* g_exponent;      // [n, B]

  const Real *d_h, *d_c;    // [B, H], after the last step; without its ∂L/∂y
  const int32_t* exponent;  // [B]

  Real *adjoint_h, *adjoint_c;  // [n, B, H], after each step; with its ∂L/∂y
  int32_t* exponents;           // [n, B]
  Real* deltas;                 // [n, B, G H], ∂L/∂z
  Real *first_h, *first_c;      // [B, H], before the first step
  int32_t* first_exponent;      // [B]
};

// The exponent of zero: below every other, and too small in size to overflow when added to.
constexpr int32_t kNothing = -(1 << 30);

// Some consecutive examples of the batch.
struct Block {
  int64_t first, count;
};

// How many gates see x and h, x alone and h alone, and whether the state has a c.
struct Counts {
  int64_t joint, input, hidden;
  bool has_c;

  constexpr int64_t gates() const { return joint + input + hidden; }
};

// The functions of one cell, for one instruction set and one type of numbers. Sizes are in numbers.
template <class Real>
struct Kernel {
  Counts counts;

  // Packed weights, which all blocks read.
  int64_t (*forward_weights)(const Sizes&);
  int64_t (*backward_weights)(const Sizes&);
  void (*pack_forward)(const Network<Real>&, Real* packed);
  void (*pack_backward)(const Network<Real>&, Real* packed);

  // A block of the batch through all of its steps. ``scratch`` is of one thread.
  int64_t (*forward_scratch)(const Sizes&, int64_t count);
  int64_t (*backward_scratch)(const Sizes&, int64_t count);
  void (*forward)(const Network<Real>&, Block, const Real* packed, Real* scratch);
  void (*backward)(const Network<Real>&, Block, const Real* packed_forward,
                   const Real* packed_backward, Real* sums, Real* scratch);

  // The gradients of the parameters: each group of blocks adds to its own sums.
  int64_t (*sums)(const Sizes&);
  void (*total)(const Network<Real>&, const Real* sums, int64_t groups);

  // Numbers of ``gates`` for one step and example.
  int64_t (*kept)(const Sizes&);

  // Adjoints of a block of the batch.
  int64_t (*adjoint_weights)(const Sizes&);
  int64_t (*adjoint_scratch)(const Sizes&, int64_t count);
  void (*pack_adjoint)(const AdjointSteps<Real>&, Real* packed);
  void (*adjoints)(const AdjointSteps<Real>&, Block, const Real* packed, Real* scratch);
};

// Null for a number that is not one of CellKind.
template <class Real>
using FindKernel = const Kernel<Real>* (*)(CellKind);

// Each is defined by kernels.cc, compiled for that instruction set, and reference by reference.cc.
#define RNNLAB_DECLARE(set)                    \
  namespace set {                              \
  const Kernel<float>* find_float(CellKind);   \
  const Kernel<double>* find_double(CellKind); \
  }
RNNLAB_DECLARE(avx512)
RNNLAB_DECLARE(avx2)
RNNLAB_DECLARE(baseline)
RNNLAB_DECLARE(reference)
#undef RNNLAB_DECLARE

}  // namespace rnnlab
