// The kernels of all cells, for one instruction set: Functions is what a cell's kernel consists of.
#pragma once

#include "cells.h"
#include "interface.h"

namespace rnnlab {
namespace RNNLAB_SET {

template <class C>
constexpr Counts kCounts = {C::kJoint, C::kInput, C::kHidden, C::kHasC};

template <template <class, template <class> class> class Functions, class Real>
static const Kernel<Real>* find(CellKind cell) {
  switch (cell) {
    case CellKind::kRnn:
      return &Functions<Real, Rnn>::kernel;
    case CellKind::kLeakyRnn:
      return &Functions<Real, LeakyRnn>::kernel;
    case CellKind::kLstm:
      return &Functions<Real, Lstm>::kernel;
    case CellKind::kGru:
      return &Functions<Real, Gru>::kernel;
  }
  return nullptr;
}

}  // namespace RNNLAB_SET
}  // namespace rnnlab
