// The kernels of one instruction set, RNNLAB_SET; compiled once for each.
#include "adjoints.h"
#include "find.h"
#include "layer.h"

namespace rnnlab {
namespace RNNLAB_SET {

template <class Real, template <class> class Cell>
struct Functions {
  using L = Layer<Real, Cell>;

  static int64_t forward_weights(const Sizes& sizes) {
    return ForwardWeights<Real, Cell>::size(sizes);
  }
  static void forward(const Network<Real>& network, Block block, const Real* packed,
                      Real* scratch) {
    L(network, block, scratch).forward(packed);
  }
  static void backward(const Network<Real>& network, Block block, const Real* packed_forward,
                       const Real* packed_backward, Real* sums, Real* scratch) {
    L(network, block, scratch).backward(packed_forward, packed_backward, sums);
  }
  static void adjoints(const AdjointSteps<Real>& steps, Block block, const Real* packed,
                       Real* scratch) {
    Adjoints<Real, Cell>(steps, block, scratch).run(packed);
  }
  static int64_t kept(const Sizes& sizes) { return Shape<Real, Cell>(sizes).kept(); }

  static constexpr Kernel<Real> kernel = {kCounts<Cell<Real>>,
                                          forward_weights,
                                          backward_weights<Real, Cell>,
                                          pack_forward<Real, Cell>,
                                          pack_backward<Real, Cell>,
                                          L::forward_scratch,
                                          L::backward_scratch,
                                          forward,
                                          backward,
                                          sums_size<Real, Cell>,
                                          total<Real, Cell>,
                                          kept,
                                          adjoint_weights<Real, Cell>,
                                          Adjoints<Real, Cell>::scratch,
                                          pack_adjoint<Real, Cell>,
                                          adjoints};
};

const Kernel<float>* find_float(CellKind cell) { return find<Functions, float>(cell); }
const Kernel<double>* find_double(CellKind cell) { return find<Functions, double>(cell); }

}  // namespace RNNLAB_SET
}  // namespace rnnlab
