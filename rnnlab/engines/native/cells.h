// The cells: how many gates they have, their gate and its derivative, one element at a time.
//
// A cell is a struct with
//   kJoint, kInput, kHidden   how many gates see x W_x + h W_h + b, x W_x + b alone and h W_h + b
//                             alone: the columns of the weights, as in rnnlab's ``Maps``
//   kKept                     how many values ``gate`` keeps for ``adjoint``
//   kHasC                     whether the state has a second part, c
//   kDirect                   whether h enters the new state beside the products
//   gate(z, old, kept)        the new state
//   adjoint(kept, old, state, d)
//                             from ∂L/∂(new state) the derivatives of z, and of the old state
//                             beside the products
// V is a vector, or a number in the reference. z and its derivative are in the order of the gates.
#pragma once

#include "interface.h"
#ifdef RNNLAB_REFERENCE
#include "scalars.h"
#else
#include "vectors.h"
#endif

namespace rnnlab {
namespace RNNLAB_SET {

// h and c, or their derivatives.
template <class V>
struct State {
  V h, c;
};

// The derivatives that ``adjoint`` returns: of each gate's z, and of the old state.
template <class V, int gates>
struct Derivative {
  V z[gates];
  State<V> old;
};

template <class Real>
struct Lstm {
  static constexpr int kJoint = 4, kInput = 0, kHidden = 0, kKept = 4;
  static constexpr bool kHasC = true, kDirect = false;

  explicit Lstm(const Options&) {}

  template <class V>
  State<V> gate(const V* z, State<V> old, V* kept) const {
    V i = sigmoid(z[0]), f = sigmoid(z[1]), g = tanh(z[2]), o = sigmoid(z[3]);
    kept[0] = i, kept[1] = f, kept[2] = g, kept[3] = o;
    V c = f * old.c + i * g;
    return {o * tanh(c), c};
  }
  template <class V>
  Derivative<V, 4> adjoint(const V* kept, State<V> old, State<V> state, State<V> d) const {
    V i = kept[0], f = kept[1], g = kept[2], o = kept[3];
    V tanh_c = tanh(state.c);
    V d_c = d.c + d.h * o * (1 - tanh_c * tanh_c);
    V d_i = d_c * g * i * (1 - i);
    V d_f = d_c * old.c * f * (1 - f);
    V d_g = d_c * i * (1 - g * g);
    V d_o = d.h * tanh_c * o * (1 - o);
    return {{d_i, d_f, d_g, d_o}, {V{}, d_c * f}};
  }
};

// With the reset gate after the product; u is the gate z of the papers.
template <class Real>
struct Gru {
  static constexpr int kJoint = 2, kInput = 1, kHidden = 1, kKept = 4;
  static constexpr bool kHasC = false, kDirect = true;

  explicit Gru(const Options&) {}

  template <class V>
  State<V> gate(const V* z, State<V> old, V* kept) const {
    V r = sigmoid(z[0]), u = sigmoid(z[1]), a_n = z[3], n = tanh(z[2] + r * a_n);
    kept[0] = r, kept[1] = u, kept[2] = n, kept[3] = a_n;
    return {(1 - u) * n + u * old.h, V{}};
  }
  template <class V>
  Derivative<V, 4> adjoint(const V* kept, State<V> old, State<V>, State<V> d) const {
    V r = kept[0], u = kept[1], n = kept[2], a_n = kept[3];
    V d_n = d.h * (1 - u) * (1 - n * n);
    V d_u = d.h * (old.h - n) * u * (1 - u);
    V d_r = d_n * a_n * r * (1 - r);
    return {{d_r, d_u, d_n, d_n * r}, {d.h * u, V{}}};
  }
};

// φ and its slope, as a function of y = φ(x). A NaN stays one.
struct Phi {
  Activation kind;

  template <class V>
  V operator()(V x) const {
    switch (kind) {
      case Activation::kTanh:
        return tanh(x);
      case Activation::kSigmoid:
        return sigmoid(x);
      case Activation::kRelu:
        return x < 0 ? V{} : x;
      default:
        return x;
    }
  }
  template <class V>
  V slope(V y) const {
    switch (kind) {
      case Activation::kTanh:
        return 1 - y * y;
      case Activation::kSigmoid:
        return y * (1 - y);
      case Activation::kRelu:
        return y > 0 ? V{} + 1 : V{};
      default:
        return V{} + 1;
    }
  }
};

template <class Real>
struct Rnn {
  static constexpr int kJoint = 1, kInput = 0, kHidden = 0, kKept = 0;
  static constexpr bool kHasC = false, kDirect = false;
  Phi phi;

  explicit Rnn(const Options& options) : phi{options.activation} {}

  template <class V>
  State<V> gate(const V* z, State<V>, V*) const {
    return {phi(z[0]), V{}};
  }
  template <class V>
  Derivative<V, 1> adjoint(const V*, State<V>, State<V> state, State<V> d) const {
    return {{d.h * phi.slope(state.h)}, {V{}, V{}}};
  }
};

template <class Real>
struct LeakyRnn {
  static constexpr int kJoint = 1, kInput = 0, kHidden = 0, kKept = 1;
  static constexpr bool kHasC = false, kDirect = true;
  Phi phi;
  Real alpha;

  explicit LeakyRnn(const Options& options)
      : phi{options.activation}, alpha(static_cast<Real>(options.alpha)) {}

  template <class V>
  State<V> gate(const V* z, State<V> old, V* kept) const {
    kept[0] = phi(z[0]);
    return {(1 - alpha) * old.h + alpha * kept[0], V{}};
  }
  template <class V>
  Derivative<V, 1> adjoint(const V* kept, State<V>, State<V>, State<V> d) const {
    return {{alpha * d.h * phi.slope(kept[0])}, {(1 - alpha) * d.h, V{}}};
  }
};

}  // namespace RNNLAB_SET
}  // namespace rnnlab
