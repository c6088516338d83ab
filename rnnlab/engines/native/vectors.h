// Vectors of the instruction set that the file is compiled for, and eˣ, tanh and σ on them.
//
// Everything here is in the namespace of the instruction set: a function of one set must never be
// merged by the linker with the same function of another.
#pragma once

#include <cstdint>
#include <cstring>

#define RNNLAB_INLINE static inline __attribute__((always_inline))
#define RNNLAB_MEMBER inline __attribute__((always_inline))

namespace rnnlab {
namespace RNNLAB_SET {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
constexpr int kTileRows = 12;  // 24 sums and 3 factors fit into 32 registers
#elif defined(__AVX2__)
constexpr int kVectorBytes = 32;
constexpr int kTileRows = 6;  // 12 sums and 3 factors fit into 16 registers
#else
constexpr int kVectorBytes = 16;
constexpr int kTileRows = 6;
#endif

template <class Real>
struct VectorOf;
template <>
struct VectorOf<float> {
  typedef float type __attribute__((vector_size(kVectorBytes)));
  typedef int32_t bits __attribute__((vector_size(kVectorBytes)));
};
template <>
struct VectorOf<double> {
  typedef double type __attribute__((vector_size(kVectorBytes)));
  typedef int64_t bits __attribute__((vector_size(kVectorBytes)));
};
template <class Real>
using Vector = typename VectorOf<Real>::type;

// How many numbers a vector has.
template <class Real>
constexpr int kLanes = kVectorBytes / sizeof(Real);

template <class Real>
RNNLAB_INLINE Vector<Real> load(const Real* from) {
  Vector<Real> v;
  __builtin_memcpy(&v, from, sizeof v);
  return v;
}
template <class Real>
RNNLAB_INLINE void store(Real* to, Vector<Real> v) {
  __builtin_memcpy(to, &v, sizeof v);
}

// The first ``count`` numbers, for the last vector of a row.
template <class Real>
RNNLAB_INLINE Vector<Real> load(const Real* from, int64_t count) {
  if (count >= kLanes<Real>) return load(from);
  Vector<Real> v = {};
  for (int64_t i = 0; i < count; i++) v[i] = from[i];
  return v;
}
template <class Real>
RNNLAB_INLINE void store(Real* to, Vector<Real> v, int64_t count) {
  if (count >= kLanes<Real>) return store(to, v);
  for (int64_t i = 0; i < count; i++) to[i] = v[i];
}

// The coefficients of q in eʳ = 1 + r + r² q(r), |r| ≤ ln 2 / 2, and ln 2 as a sum of two numbers:
// made by fit_coefficients.py.
template <class Real>
struct Exponential;
template <>
struct Exponential<float> {
  static constexpr float q[] = {4.9999994e-1f, 1.66665211e-1f, 4.1668389e-2f, 8.36871006e-3f,
                                1.38146128e-3f};
  static constexpr float ln2 = 0.693145751953125f, ln2_rest = 1.428606765330187e-6f;
  static constexpr float log2_e = 1.44269504f;
  static constexpr float shift = 12582912.f;  // 1.5 · 2²³: added, it rounds to an integer
  static constexpr int mantissa = 23;
  static constexpr float lowest = -88;  // 2ⁿ is 0 there, and eˣ below the normal range
};
template <>
struct Exponential<double> {
  static constexpr double q[] = {
      5.0000000000000111e-1, 1.6666666666666413e-1, 4.1666666666530267e-2, 8.3333333334943329e-3,
      1.388888894359769e-3,  1.9841269506779664e-4, 2.4801493136197254e-5, 2.7557586266408486e-6,
      2.7630233914958636e-7, 2.5000072292151244e-8};
  static constexpr double ln2 = 0.69314718055989033, ln2_rest = 5.4979230187083712e-14;
  static constexpr double log2_e = 1.4426950408889634;
  static constexpr double shift = 6755399441055744.;  // 1.5 · 2⁵²
  static constexpr int mantissa = 52;
  static constexpr double lowest = -709;
};

// The same bits as another type.
template <class To, class From>
RNNLAB_INLINE To bits_as(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  __builtin_memcpy(&to, &from, sizeof to);
  return to;
}

// |x|, from the bits: that of a NaN is one.
template <class Real>
RNNLAB_INLINE Vector<Real> size_of(Vector<Real> x) {
  using Bits = typename VectorOf<Real>::bits;
  Bits sign = bits_as<Bits>(Real(-0.0) - Vector<Real>{});
  return bits_as<Vector<Real>>(bits_as<Bits>(x) & ~sign);
}

// |y| with the sign of x, which zeros have too.
template <class Real>
RNNLAB_INLINE Vector<Real> with_sign_of(Vector<Real> x, Vector<Real> y) {
  using Bits = typename VectorOf<Real>::bits;
  Bits sign = bits_as<Bits>(Real(-0.0) - Vector<Real>{});
  return bits_as<Vector<Real>>((bits_as<Bits>(y) & ~sign) | (bits_as<Bits>(x) & sign));
}

// eˣ and eˣ − 1 for x ≤ 0; a NaN in x is one in both.
template <class Real>
struct Exp {
  Vector<Real> e, e_minus_1;
};
template <class Real>
RNNLAB_INLINE Exp<Real> exp_of_negative(Vector<Real> x) {
  using C = Exponential<Real>;
  using Bits = typename VectorOf<Real>::bits;
  x = x < C::lowest ? C::lowest - Vector<Real>{} : x;
  Vector<Real> shifted = x * C::log2_e + C::shift;
  Vector<Real> n = shifted - C::shift;
  Vector<Real> r = (x - n * C::ln2) - n * C::ln2_rest;
  constexpr int terms = sizeof C::q / sizeof C::q[0];
  Vector<Real> q = C::q[terms - 1] - Vector<Real>{};
  for (int k = terms - 2; k >= 0; k--) q = q * r + C::q[k];
  // The low bits of ``shifted`` are n: moved to the place of the exponent, they make 2ⁿ.
  Bits one = bits_as<Bits>(Real(1) - Vector<Real>{});
  Vector<Real> power = bits_as<Vector<Real>>((bits_as<Bits>(shifted) << C::mantissa) + one);
  Vector<Real> m = r * r * q + r;  // eʳ − 1
  // Not 2ⁿ m + 2ⁿ: a product below the normal range may count as zero.
  return {power * (m + Real(1)), power * m + (power - Real(1))};
}

// n / (1 + e) for e in [0, 1], corrected for the rounding of the quotient and of 1 + e. The
// correction is so small that 1 − e / 2 can stand for 1 / (1 + e) in it.
template <class Real>
RNNLAB_INLINE Vector<Real> over_one_plus(Vector<Real> n, Vector<Real> e) {
  Vector<Real> d = e + Real(1), rest = e - (d - Real(1));
  Vector<Real> q = n / d;
  Vector<Real> left = n - q * d - q * rest;
  return q + left * (Real(1) - e * Real(0.5));
}

// σ(x) = 1 / (1 + e⁻ˣ), for x < 0 as eˣ / (1 + eˣ): accurate relative to σ also where it is small.
template <class Real>
RNNLAB_INLINE Vector<Real> sigmoid_of(Vector<Real> x) {
  Vector<Real> e = exp_of_negative<Real>(-size_of<Real>(x)).e;
  Vector<Real> one = Real(1) - Vector<Real>{};
  return over_one_plus<Real>(x < Real(0) ? e : one, e);
}

// |tanh x| = (1 − e) / (1 + e) with e = e^(−2|x|): for small x by e − 1, which is accurate relative
// to x there, and for large x as 1 − 2e / (1 + e), where the quotient is a small correction.
template <class Real>
RNNLAB_INLINE Vector<Real> tanh_of(Vector<Real> x) {
  Vector<Real> size = size_of<Real>(x);
  Exp<Real> exp = exp_of_negative<Real>(size * Real(-2));
  auto large = size > Real(0.6);
  Vector<Real> quotient = over_one_plus<Real>(large ? exp.e + exp.e : -exp.e_minus_1, exp.e);
  return with_sign_of<Real>(x, large ? Real(1) - quotient : quotient);
}

// Overloads, since the type of the numbers cannot be deduced from a vector.
RNNLAB_INLINE Vector<float> sigmoid(Vector<float> x) { return sigmoid_of<float>(x); }
RNNLAB_INLINE Vector<double> sigmoid(Vector<double> x) { return sigmoid_of<double>(x); }
RNNLAB_INLINE Vector<float> tanh(Vector<float> x) { return tanh_of<float>(x); }
RNNLAB_INLINE Vector<double> tanh(Vector<double> x) { return tanh_of<double>(x); }

}  // namespace RNNLAB_SET
}  // namespace rnnlab
