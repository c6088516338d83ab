// Whole networks: the batch cut into blocks, and blocks or networks given to threads.
#pragma once

#include <algorithm>
#include <cstring>

#include "interface.h"
#include "parallel.h"

namespace rnnlab {

// Rows of a block: more would push the states out of the cache.
constexpr int64_t kMostRows = 24;
// Multiplications that pay for waking a thread.
constexpr int64_t kWorkOfThread = 400'000;

// Blocks of about equal size, and groups of blocks: each group has its own sums, so that a gradient
// does not depend on which thread was free.
struct Plan {
  int64_t rows, blocks, groups;

  Plan(const Sizes& sizes, int64_t gates, int64_t threads) {
    int64_t work = sizes.steps * sizes.batch * (sizes.inputs + sizes.units) * gates * sizes.units;
    int64_t useful = std::max<int64_t>(1, std::min(threads, work / kWorkOfThread));
    int64_t blocks_each = (sizes.batch + useful * kMostRows - 1) / (useful * kMostRows);
    int64_t wanted = std::max<int64_t>(1, useful * blocks_each);
    rows = std::max<int64_t>(1, (sizes.batch + wanted - 1) / wanted);
    blocks = (sizes.batch + rows - 1) / rows;
    // One even for an empty batch, whose gradient is zero.
    groups = std::max<int64_t>(1, std::min(useful, blocks));
  }
  int64_t first_block(int64_t group) const { return blocks * group / groups; }
  Block block(int64_t index, int64_t batch) const {
    return {index * rows, std::min(rows, batch - index * rows)};
  }
};

inline thread_local Arena t_weights, t_scratch;

template <class Real>
Real* room(Arena& arena, int64_t count) {
  return static_cast<Real*>(arena.get((count + 16) * sizeof(Real)));
}

// Either networks side by side, or one after the other with blocks side by side.
template <class Pool, class Run>
void each_network(Pool& pool, int64_t networks, const Run& run) {
  int64_t threads = std::max<int64_t>(1, pool.num_threads());
  if (networks >= threads && threads > 1) {
    parallel(pool, networks, threads, [&](int64_t k) { run(k, int64_t{1}); });
  } else {
    for (int64_t k = 0; k < networks; k++) run(k, threads);
  }
}

template <class Real, class Pool>
void run_forward(Pool& pool, const Kernel<Real>& kernel, const Network<Real>& network,
                 int64_t threads) {
  const Sizes& sizes = network.sizes;
  Plan plan(sizes, kernel.counts.gates(), threads);
  Real* packed = room<Real>(t_weights, kernel.forward_weights(sizes));
  kernel.pack_forward(network, packed);
  parallel(pool, plan.blocks, threads, [&](int64_t index) {
    Real* scratch = room<Real>(t_scratch, kernel.forward_scratch(sizes, plan.rows));
    kernel.forward(network, plan.block(index, sizes.batch), packed, scratch);
  });
}

template <class Real, class Pool>
void run_backward(Pool& pool, const Kernel<Real>& kernel, const Network<Real>& network,
                  int64_t threads) {
  const Sizes& sizes = network.sizes;
  Plan plan(sizes, kernel.counts.gates(), threads);
  // The gates are computed again from the states where they were not kept.
  int64_t forward_size = network.gates ? 0 : kernel.forward_weights(sizes);
  int64_t backward_size = kernel.backward_weights(sizes), sums_size = kernel.sums(sizes);
  Real* packed = room<Real>(t_weights, forward_size + backward_size + plan.groups * sums_size);
  Real* packed_backward = packed + forward_size;
  Real* sums = packed_backward + backward_size;
  if (!network.gates) kernel.pack_forward(network, packed);
  kernel.pack_backward(network, packed_backward);
  std::memset(sums, 0, plan.groups * sums_size * sizeof(Real));
  parallel(pool, plan.groups, threads, [&](int64_t group) {
    Real* scratch = room<Real>(t_scratch, kernel.backward_scratch(sizes, plan.rows));
    for (int64_t index = plan.first_block(group); index < plan.first_block(group + 1); index++) {
      kernel.backward(network, plan.block(index, sizes.batch), packed, packed_backward,
                      sums + group * sums_size, scratch);
    }
  });
  kernel.total(network, sums, plan.groups);
}

template <class Real, class Pool>
void run_adjoints(Pool& pool, const Kernel<Real>& kernel, const AdjointSteps<Real>& steps,
                  int64_t threads) {
  const Sizes& sizes = steps.sizes;
  Plan plan(sizes, kernel.counts.gates(), threads);
  Real* packed = room<Real>(t_weights, kernel.adjoint_weights(sizes));
  kernel.pack_adjoint(steps, packed);
  parallel(pool, plan.blocks, threads, [&](int64_t index) {
    Real* scratch = room<Real>(t_scratch, kernel.adjoint_scratch(sizes, plan.rows));
    kernel.adjoints(steps, plan.block(index, sizes.batch), packed, scratch);
  });
}

}  // namespace rnnlab
