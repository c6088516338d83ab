// The same passes in the plainest way: one number at a time, nothing packed. Tests bind the kernels
// to it.
#include <algorithm>
#include <cmath>
#include <vector>

#define RNNLAB_SET reference
#define RNNLAB_REFERENCE
#include "cells.h"
#include "find.h"

namespace rnnlab {
namespace reference {

template <class Real, template <class> class Cell>
class Layer {
 public:
  using C = Cell<Real>;
  static constexpr int64_t kInputGates = C::kJoint + C::kInput;
  static constexpr int64_t kStateGates = C::kJoint + C::kHidden;
  static constexpr int64_t kGates = C::kJoint + C::kInput + C::kHidden;

  // The column of gate q in w_x and in w_h; -1 where it sees only the other.
  static int64_t input_column(int64_t q) { return q < kInputGates ? q : -1; }
  static int64_t state_column(int64_t q) {
    if (q < C::kJoint) return q;
    return q < kInputGates ? -1 : q - C::kInput;
  }

  explicit Layer(const Network<Real>& network) : n_(network), cell_(network.options) {}

  void forward(int64_t b) const {
    for (int64_t step = 0; step < n_.sizes.steps; step++) {
      int64_t t = time(step);
      // Copied, since the last c may be overwritten in place.
      std::vector<State<Real>> start = start_of(step, b), old = before(step, b);
      for (int64_t j = 0; j < units(); j++) {
        Real z[kGates], kept[C::kKept + 1] = {};
        sums(t, b, j, start, z);
        State<Real> state = valid(t, b) ? cell_.gate(z, start[j], kept) : old[j];
        n_.hs[at(t, b, j)] = state.h;
        if (C::kHasC) n_.cs[n_.only_final_c ? at(0, b, j) : at(t, b, j)] = state.c;
        for (int q = 0; n_.gates && q < C::kKept; q++) n_.gates[kept_at(t, b, j, q)] = kept[q];
      }
    }
  }

  void backward(int64_t b, Real* d_w) const {
    std::vector<State<Real>> d(units());
    for (int64_t j = 0; j < units(); j++) {
      d[j] = {n_.d_h[at(0, b, j)], C::kHasC ? n_.d_c[at(0, b, j)] : Real(0)};
      if (n_.resets) n_.d_reset_h[at(0, b, j)] = 0;
      if (n_.resets && C::kHasC) n_.d_reset_c[at(0, b, j)] = 0;
    }
    for (int64_t step = n_.sizes.steps; step-- > 0;) step_back(step, b, d, d_w);
    for (int64_t j = 0; j < units(); j++) {
      n_.d_h0[at(0, b, j)] = d[j].h;
      if (C::kHasC) n_.d_c0[at(0, b, j)] = d[j].c;
    }
  }

 private:
  int64_t units() const { return n_.sizes.units; }
  int64_t time(int64_t step) const { return n_.options.reverse ? n_.sizes.steps - 1 - step : step; }
  int64_t at(int64_t t, int64_t b, int64_t j) const {
    return (t * n_.sizes.batch + b) * units() + j;
  }
  int64_t kept_at(int64_t t, int64_t b, int64_t j, int64_t q) const {
    return at(t, b, j) * C::kKept + q;
  }
  bool valid(int64_t t, int64_t b) const { return !n_.valid || n_.valid[t * n_.sizes.batch + b]; }
  bool reset(int64_t t, int64_t b) const {
    return n_.resets && valid(t, b) && n_.resets[t * n_.sizes.batch + b];
  }

  std::vector<State<Real>> before(int64_t step, int64_t b) const {
    std::vector<State<Real>> states(units());
    for (int64_t j = 0; j < units(); j++) {
      if (step == 0) {
        states[j] = {n_.h0[at(0, b, j)], C::kHasC ? n_.c0[at(0, b, j)] : Real(0)};
      } else {
        int64_t t = time(step - 1);
        Real c = C::kHasC ? n_.cs[n_.only_final_c ? at(0, b, j) : at(t, b, j)] : Real(0);
        states[j] = {n_.hs[at(t, b, j)], c};
      }
    }
    return states;
  }
  std::vector<State<Real>> start_of(int64_t step, int64_t b) const {
    std::vector<State<Real>> states = before(step, b);
    for (int64_t j = 0; reset(time(step), b) && j < units(); j++) {
      states[j] = {n_.reset_h[at(0, b, j)], C::kHasC ? n_.reset_c[at(0, b, j)] : Real(0)};
    }
    return states;
  }

  // z of all gates of unit j.
  void sums(int64_t t, int64_t b, int64_t j, const std::vector<State<Real>>& start, Real* z) const {
    for (int64_t q = 0; q < kGates; q++) {
      z[q] = n_.bias[q * units() + j];
      for (int64_t i = 0; input_column(q) >= 0 && i < n_.sizes.inputs; i++) {
        z[q] += x(t, b, i) * n_.w_x[w_x_at(i, q, j)];
      }
      for (int64_t k = 0; state_column(q) >= 0 && k < units(); k++) {
        z[q] += start[k].h * n_.w_h[w_h_at(k, q, j)];
      }
    }
  }
  Real x(int64_t t, int64_t b, int64_t i) const { return n_.xs[x_at(t, b, i)]; }
  int64_t x_at(int64_t t, int64_t b, int64_t i) const {
    return (t * n_.sizes.batch + b) * n_.sizes.inputs + i;
  }
  int64_t w_x_at(int64_t i, int64_t q, int64_t j) const {
    return i * kInputGates * units() + input_column(q) * units() + j;
  }
  int64_t w_h_at(int64_t k, int64_t q, int64_t j) const {
    return k * kStateGates * units() + state_column(q) * units() + j;
  }

  // d is ∂L/∂(state after the step) without its own outputs, and then that before the step.
  void step_back(int64_t step, int64_t b, std::vector<State<Real>>& d, Real* d_w) const {
    int64_t t = time(step);
    std::vector<State<Real>> start = start_of(step, b), d_old(units());
    std::vector<Real> d_x(n_.sizes.inputs);
    Real* d_w_h = d_w + n_.sizes.inputs * kInputGates * units();
    Real* d_bias = d_w_h + units() * kStateGates * units();
    for (int64_t j = 0; j < units(); j++) {
      d[j].h += n_.d_hs[at(t, b, j)];
      if (C::kHasC && n_.d_cs) d[j].c += n_.d_cs[at(t, b, j)];
    }
    for (int64_t j = 0; valid(t, b) && j < units(); j++) {
      Real z[kGates], kept[C::kKept + 1] = {};
      sums(t, b, j, start, z);
      cell_.gate(z, start[j], kept);
      State<Real> state = {n_.hs[at(t, b, j)], C::kHasC ? n_.cs[at(t, b, j)] : Real(0)};
      auto delta = cell_.adjoint(kept, start[j], state, d[j]);
      d_old[j].h += delta.old.h, d_old[j].c += delta.old.c;
      for (int64_t q = 0; q < kGates; q++) {
        d_bias[q * units() + j] += delta.z[q];
        for (int64_t i = 0; input_column(q) >= 0 && i < n_.sizes.inputs; i++) {
          d_x[i] += delta.z[q] * n_.w_x[w_x_at(i, q, j)];
          d_w[w_x_at(i, q, j)] += delta.z[q] * x(t, b, i);
        }
        for (int64_t k = 0; state_column(q) >= 0 && k < units(); k++) {
          d_old[k].h += delta.z[q] * n_.w_h[w_h_at(k, q, j)];
          d_w_h[w_h_at(k, q, j)] += delta.z[q] * start[k].h;
        }
      }
    }
    for (int64_t i = 0; n_.d_xs && i < n_.sizes.inputs; i++) n_.d_xs[x_at(t, b, i)] = d_x[i];
    if (!valid(t, b)) return;
    for (int64_t j = 0; j < units(); j++) {
      if (reset(t, b)) {
        n_.d_reset_h[at(0, b, j)] += d_old[j].h;
        if (C::kHasC) n_.d_reset_c[at(0, b, j)] += d_old[j].c;
        d_old[j] = {};
      }
      d[j] = d_old[j];
    }
  }

  const Network<Real> n_;
  const C cell_;
};

// The adjoints of one example.
template <class Real, template <class> class Cell>
class Adjoint {
 public:
  using C = Cell<Real>;
  using L = Layer<Real, Cell>;

  Adjoint(const AdjointSteps<Real>& steps, int64_t example)
      : n_(steps),
        example_(example),
        cell_(steps.options),
        d_(steps.sizes.units),
        exponent_(steps.exponent[example]) {}

  void run() {
    for (int64_t j = 0; j < units(); j++) {
      int64_t at = example_ * units() + j;
      d_[j] = {n_.d_h[at], C::kHasC ? n_.d_c[at] : Real(0)};
    }
    for (int64_t step = n_.sizes.steps; step-- > 0;) {
      int64_t t = n_.options.reverse ? n_.sizes.steps - 1 - step : step;
      enter(t);
      step_back(t);
    }
    for (int64_t j = 0; j < units(); j++) {
      int64_t at = example_ * units() + j;
      n_.first_h[at] = d_[j].h;
      if (C::kHasC) n_.first_c[at] = d_[j].c;
    }
    n_.first_exponent[example_] = static_cast<int32_t>(exponent_);
  }

 private:
  int64_t units() const { return n_.sizes.units; }
  int64_t mark(int64_t t) const { return t * n_.sizes.batch + example_; }

  void enter(int64_t t) {
    Real largest = 0;
    for (const State<Real>& d : d_) {
      largest = std::fmax(largest, std::fmax(std::fabs(d.h), std::fabs(d.c)));
    }
    int shift = 0;
    std::frexp(largest, &shift);
    int64_t level = largest == 0 ? kNothing : exponent_ + shift;
    int64_t g_exponent = n_.g_exponent[mark(t)];
    int64_t common = std::max(level, g_exponent);
    for (int64_t j = 0; j < units(); j++) {
      d_[j] = {scaled(d_[j].h, exponent_ - common), scaled(d_[j].c, exponent_ - common)};
      d_[j].h += scaled(n_.g[mark(t) * units() + j], g_exponent - common);
      n_.adjoint_h[mark(t) * units() + j] = d_[j].h;
      if (C::kHasC) n_.adjoint_c[mark(t) * units() + j] = d_[j].c;
    }
    exponent_ = common;
    n_.exponents[mark(t)] = static_cast<int32_t>(common);
  }
  static Real scaled(Real x, int64_t shift) {
    return std::ldexp(x, static_cast<int>(std::max<int64_t>(shift, -(1 << 20))));
  }

  void step_back(int64_t t) {
    bool valid = !n_.valid || n_.valid[mark(t)], reset = n_.resets && n_.resets[mark(t)];
    Real* deltas = n_.deltas + mark(t) * L::kGates * units();
    std::fill(deltas, deltas + L::kGates * units(), Real(0));
    if (!valid) return;
    std::vector<State<Real>> d_old(units());
    for (int64_t j = 0; j < units(); j++) {
      int64_t at = mark(t) * units() + j;
      State<Real> old = {n_.old_h[at], C::kHasC ? n_.old_c[at] : Real(0)};
      State<Real> state = {n_.hs[at], C::kHasC ? n_.cs[at] : Real(0)};
      auto result = cell_.adjoint(n_.gates + at * C::kKept, old, state, d_[j]);
      d_old[j].h += result.old.h, d_old[j].c += result.old.c;
      for (int64_t q = 0; q < L::kGates; q++) {
        deltas[q * units() + j] = result.z[q];
        for (int64_t k = 0; L::state_column(q) >= 0 && k < units(); k++) {
          int64_t column = L::state_column(q) * units() + j;
          d_old[k].h += result.z[q] * n_.w_h[k * L::kStateGates * units() + column];
        }
      }
    }
    d_ = reset ? std::vector<State<Real>>(units()) : d_old;
  }

  const AdjointSteps<Real> n_;
  const int64_t example_;
  const C cell_;
  std::vector<State<Real>> d_;
  int64_t exponent_;
};

template <class Real, template <class> class Cell>
struct Functions {
  using C = Cell<Real>;
  using L = Layer<Real, Cell>;

  static int64_t none(const Sizes&) { return 0; }
  static int64_t none(const Sizes&, int64_t) { return 0; }
  static void pack(const Network<Real>&, Real*) {}
  static void forward(const Network<Real>& network, Block block, const Real*, Real*) {
    L layer(network);
    for (int64_t i = 0; i < block.count; i++) layer.forward(block.first + i);
  }
  static void backward(const Network<Real>& network, Block block, const Real*, const Real*,
                       Real* sums, Real*) {
    L layer(network);
    for (int64_t i = 0; i < block.count; i++) layer.backward(block.first + i, sums);
  }
  // d_w_x, d_w_h and d_bias, one after the other.
  static int64_t w_x_size(const Sizes& s) { return s.inputs * L::kInputGates * s.units; }
  static int64_t w_h_size(const Sizes& s) { return s.units * L::kStateGates * s.units; }
  static int64_t sums(const Sizes& s) { return w_x_size(s) + w_h_size(s) + L::kGates * s.units; }
  static void total(const Network<Real>& network, const Real* from, int64_t groups) {
    const Sizes& s = network.sizes;
    for (int64_t i = 0; i < sums(s); i++) {
      Real sum = 0;
      for (int64_t group = 0; group < groups; group++) sum += from[group * sums(s) + i];
      int64_t in_w_h = i - w_x_size(s), in_bias = in_w_h - w_h_size(s);
      (in_w_h < 0    ? network.d_w_x[i]
       : in_bias < 0 ? network.d_w_h[in_w_h]
                     : network.d_bias[in_bias]) = sum;
    }
  }
  static int64_t kept(const Sizes& sizes) { return C::kKept * sizes.units; }
  static void pack(const AdjointSteps<Real>&, Real*) {}
  static void adjoints(const AdjointSteps<Real>& steps, Block block, const Real*, Real*) {
    for (int64_t i = 0; i < block.count; i++) Adjoint<Real, Cell>(steps, block.first + i).run();
  }

  static constexpr Kernel<Real> kernel = {kCounts<C>, none,    none,     pack,    pack,  none,
                                          none,       forward, backward, sums,    total, kept,
                                          none,       none,    pack,     adjoints};
};

const Kernel<float>* find_float(CellKind cell) { return find<Functions, float>(cell); }
const Kernel<double>* find_double(CellKind cell) { return find<Functions, double>(cell); }

}  // namespace reference
}  // namespace rnnlab
