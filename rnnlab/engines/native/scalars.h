// tanh and σ of single numbers, for the reference.
#pragma once

#include <cmath>

namespace rnnlab {
namespace RNNLAB_SET {

template <class Real>
static Real sigmoid(Real x) {
  return 1 / (1 + std::exp(-x));
}
template <class Real>
static Real tanh(Real x) {
  return std::tanh(x);
}

}  // namespace RNNLAB_SET
}  // namespace rnnlab
