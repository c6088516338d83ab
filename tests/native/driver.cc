// Random networks: the kernels of every instruction set that runs here against the reference.
//
//     driver SEED COUNT
//
// prints how many networks agreed, and ends with 1 after a first disagreement. It holds no part of
// XLA, so that it can be built with a compiler's checks of memory and of threads. Every array has
// its exact size, and results are NaN until they are written.
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <functional>
#include <limits>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "networks.h"

namespace {

using namespace rnnlab;

// ---- A pool of threads with the two functions of XLA's ----

class Pool {
 public:
  explicit Pool(int64_t threads) {
    for (int64_t i = 0; i < threads; i++) threads_.emplace_back([this] { work(); });
  }
  ~Pool() {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      ended_ = true;
    }
    changed_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  void Schedule(std::function<void()> task) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      tasks_.push_back(std::move(task));
    }
    changed_.notify_one();
  }
  int64_t num_threads() const { return static_cast<int64_t>(threads_.size()); }

 private:
  void work() {
    while (true) {
      std::unique_lock<std::mutex> lock(mutex_);
      changed_.wait(lock, [this] { return ended_ || !tasks_.empty(); });
      if (tasks_.empty()) return;
      std::function<void()> task = std::move(tasks_.front());
      tasks_.pop_front();
      lock.unlock();
      task();
    }
  }
  std::mutex mutex_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> tasks_;
  std::vector<std::thread> threads_;
  bool ended_ = false;
};

// ---- Random networks ----

class Random {
 public:
  explicit Random(unsigned seed) : engine_(seed) {}
  int64_t below(int64_t limit) { return static_cast<int64_t>(engine_() % limit); }
  bool once_in(int64_t n) { return below(n) == 0; }
  // Often 1, and often a number near the width of a vector.
  int64_t size(int64_t most) {
    const int64_t edges[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33};
    int64_t drawn = once_in(2) ? edges[below(11)] : 1 + below(most);
    return std::min(drawn, most);
  }
  template <class Real>
  std::vector<Real> numbers(int64_t count, double scale = 1) {
    std::normal_distribution<double> normal(0, scale);
    std::vector<Real> drawn(count);
    for (Real& x : drawn) x = static_cast<Real>(normal(engine_));
    return drawn;
  }
  std::vector<uint8_t> flags(int64_t count, int64_t percent) {
    std::vector<uint8_t> drawn(count);
    for (uint8_t& x : drawn) x = below(100) < percent;
    return drawn;
  }

 private:
  std::mt19937 engine_;
};

struct Problem {
  Sizes sizes;
  Options options;
  bool with_valid, with_resets, with_d_cs, with_d_xs, with_gates;
  bool exact;  // with working memory of exactly the size that is asked for
  unsigned seed;

  explicit Problem(unsigned number) : seed(number) {
    Random random(number);
    bool is_long = random.once_in(20);
    sizes.steps = is_long ? 190 + random.below(30) : random.size(12);
    sizes.batch = is_long ? random.size(3) : random.size(60);
    sizes.inputs = random.size(40), sizes.units = random.size(is_long ? 10 : 40);
    options.cell = static_cast<CellKind>(random.below(4));
    options.activation = static_cast<Activation>(random.below(4));
    options.alpha = 0.3, options.reverse = random.once_in(2);
    with_valid = random.once_in(2), with_resets = random.once_in(2);
    with_d_cs = random.once_in(2), with_d_xs = !random.once_in(4), with_gates = random.once_in(2);
    exact = random.once_in(2);
  }
  std::string text() const {
    char buffer[200];
    std::snprintf(buffer, sizeof buffer,
                  "network %u: T=%d B=%d I=%d H=%d, cell %d, activation %d, reverse %d, valid %d, "
                  "resets %d, gates %d",
                  seed, static_cast<int>(sizes.steps), static_cast<int>(sizes.batch),
                  static_cast<int>(sizes.inputs), static_cast<int>(sizes.units),
                  static_cast<int>(options.cell), static_cast<int>(options.activation),
                  options.reverse, with_valid, with_resets, with_gates);
    return buffer;
  }
};

// The arguments and results of all passes of one problem by one kernel.
template <class Real>
class Run {
 public:
  Run(const Problem& problem, const Kernel<Real>& kernel, Pool& pool)
      : problem_(problem), kernel_(kernel), pool_(pool), random_(problem.seed + 1) {
    Counts g = reference::find_double(problem.options.cell)->counts;
    has_c_ = g.has_c;
    const Sizes& s = problem.sizes;
    int64_t states = s.batch * s.units, steps = s.steps * states, marks = s.steps * s.batch;
    Network<Real>& n = network_;
    n.sizes = s, n.options = problem.options;
    // Sums of any length stay near 1.
    n.xs = draw(s.steps * s.batch * s.inputs);
    n.h0 = draw(states), n.c0 = draw(has_c_ ? states : -1);
    n.w_x = draw(s.inputs * (g.joint + g.input) * s.units, 0.5 / std::sqrt(s.inputs));
    n.w_h = draw(s.units * (g.joint + g.hidden) * s.units, 0.5 / std::sqrt(s.units));
    n.bias = draw((g.joint + g.input + g.hidden) * s.units, 0.5);
    valid_ = random_.flags(marks, 70), resets_ = random_.flags(marks, 30);
    n.valid = problem.with_valid ? valid_.data() : nullptr;
    n.resets = problem.with_resets ? resets_.data() : nullptr;
    n.reset_h = draw(states), n.reset_c = draw(has_c_ ? states : -1);
    n.d_hs = draw(steps), n.d_h = draw(states), n.d_c = draw(has_c_ ? states : -1);
    n.d_cs = draw(has_c_ && problem.with_d_cs ? steps : -1);
    n.hs = result(steps), n.cs = result(has_c_ ? steps : -1);
    last_c_ = result(has_c_ ? states : -1);
    gates_ = result(marks * kernel.kept(s), false);
    n.d_xs = result(problem.with_d_xs ? marks * s.inputs : -1);
    n.d_h0 = result(states), n.d_c0 = result(has_c_ ? states : -1);
    n.d_reset_h = result(n.resets ? states : -1);
    n.d_reset_c = result(n.resets && has_c_ ? states : -1);
    n.d_w_x = result(s.inputs * (g.joint + g.input) * s.units);
    n.d_w_h = result(s.units * (g.joint + g.hidden) * s.units);
    n.d_bias = result((g.joint + g.input + g.hidden) * s.units);
  }

  void passes(int64_t threads) {
    Network<Real> n = network_;
    // In place: only the last c is kept.
    n.only_final_c = true, n.cs = last_c_, n.gates = nullptr;
    run_forward(pool_, kernel_, n, threads);
    n = network_;
    n.gates = gates_;
    problem_.exact ? forward_exactly(n) : run_forward(pool_, kernel_, n, threads);
    if (!problem_.with_gates) n.gates = nullptr;
    problem_.exact ? backward_exactly(n) : run_backward(pool_, kernel_, n, threads);
    adjoints(threads);
  }

  const std::vector<std::vector<Real>>& results() const { return results_; }
  const std::vector<double>& adjoint_values() const { return adjoint_values_; }

 private:
  // As run_forward and run_backward, with working memory of exactly the size that a kernel asks
  // for, which is NaN: a thread's own memory is larger, and holds what earlier calls left.
  void forward_exactly(const Network<Real>& n) {
    const Sizes& s = problem_.sizes;
    auto packed = nothing(kernel_.forward_weights(s));
    kernel_.pack_forward(n, packed.data());
    for (const Block& block : blocks()) {
      auto scratch = nothing(kernel_.forward_scratch(s, block.count));
      kernel_.forward(n, block, packed.data(), scratch.data());
    }
  }
  void backward_exactly(const Network<Real>& n) {
    const Sizes& s = problem_.sizes;
    auto forward = nothing(kernel_.forward_weights(s)),
         packed = nothing(kernel_.backward_weights(s));
    std::vector<Real> sums(kernel_.sums(s));
    if (!n.gates) kernel_.pack_forward(n, forward.data());
    kernel_.pack_backward(n, packed.data());
    for (const Block& block : blocks()) {
      auto scratch = nothing(kernel_.backward_scratch(s, block.count));
      kernel_.backward(n, block, forward.data(), packed.data(), sums.data(), scratch.data());
    }
    kernel_.total(n, sums.data(), 1);
  }
  std::vector<Block> blocks() const {
    std::vector<Block> cut;
    for (int64_t first = 0; first < problem_.sizes.batch; first += 10) {
      cut.push_back({first, std::min<int64_t>(10, problem_.sizes.batch - first)});
    }
    return cut;
  }
  static std::vector<Real> nothing(int64_t count) {
    return std::vector<Real>(count, std::numeric_limits<Real>::quiet_NaN());
  }

  void adjoints(int64_t threads) {
    const Sizes& s = problem_.sizes;
    int64_t gates = reference::find_double(problem_.options.cell)->counts.gates();
    int64_t state = s.batch * s.units;
    AdjointSteps<Real> n = {};
    n.sizes = s, n.sizes.inputs = 0, n.options = problem_.options;
    // Any states will do for those before each step: here those after it.
    n.old_h = n.hs = network_.hs, n.old_c = n.cs = network_.cs;
    n.gates = gates_, n.w_h = network_.w_h, n.valid = network_.valid, n.resets = network_.resets;
    n.g = network_.d_hs;
    Random random(problem_.seed + 2);
    auto exponents = [&](int64_t count, int64_t span) {
      std::vector<int32_t> drawn(count);
      for (int32_t& x : drawn) x = static_cast<int32_t>(random.below(2 * span + 1) - span);
      return drawn;
    };
    auto of_g = exponents(s.steps * s.batch, 5), of_d = exponents(s.batch, 5);
    auto d_h = random.numbers<Real>(state), d_c = random.numbers<Real>(state);
    std::vector<Real> adjoint_h(s.steps * state), adjoint_c(s.steps * state), first_h(state),
        first_c(state), deltas(s.steps * s.batch * gates * s.units);
    std::vector<int32_t> scales(s.steps * s.batch), first_scales(s.batch);
    n.g_exponent = of_g.data(), n.exponent = of_d.data();
    n.d_h = d_h.data(), n.d_c = has_c_ ? d_c.data() : nullptr;
    n.adjoint_h = adjoint_h.data(), n.adjoint_c = has_c_ ? adjoint_c.data() : nullptr;
    n.exponents = scales.data(), n.deltas = deltas.data();
    n.first_h = first_h.data(), n.first_c = has_c_ ? first_c.data() : nullptr;
    n.first_exponent = first_scales.data();
    run_adjoints(pool_, kernel_, n, threads);
    unscale(adjoint_h, scales), unscale(deltas, scales), unscale(first_h, first_scales);
    if (has_c_) unscale(adjoint_c, scales), unscale(first_c, first_scales);
  }
  // mantissa · 2^exponent, of which the kernels may choose different ones.
  void unscale(const std::vector<Real>& mantissas, const std::vector<int32_t>& exponents) {
    size_t each = mantissas.size() / exponents.size();
    for (size_t i = 0; i < mantissas.size(); i++) {
      adjoint_values_.push_back(std::ldexp(mantissas[i], exponents[i / each]));
    }
  }

  // Null for a negative count.
  const Real* draw(int64_t count, double scale = 1) {
    if (count < 0) return nullptr;
    arguments_.push_back(random_.numbers<Real>(count, scale));
    return arguments_.back().data();
  }
  // What is compared is the same for all kernels; the layout of gates is not.
  Real* result(int64_t count, bool compared = true) {
    if (count < 0) return nullptr;
    auto& list = compared ? results_ : others_;
    list.emplace_back(count, std::numeric_limits<Real>::quiet_NaN());
    return list.back().data();
  }

  const Problem problem_;
  const Kernel<Real>& kernel_;
  Pool& pool_;
  Random random_;
  bool has_c_ = false;
  Network<Real> network_ = {};
  Real *last_c_ = nullptr, *gates_ = nullptr;
  std::vector<std::vector<Real>> arguments_, results_, others_;
  std::vector<uint8_t> valid_, resets_;
  std::vector<double> adjoint_values_;
};

// ---- The comparison ----

// The largest difference, in units of the largest number of the array or of 1.
template <class Array>
double distance(const Array& found, const Array& expected) {
  double size = 1, worst = 0;
  for (auto x : expected) size = std::max(size, std::abs(static_cast<double>(x)));
  for (size_t i = 0; i < expected.size(); i++) {
    double wrong = std::abs(static_cast<double>(found[i]) - static_cast<double>(expected[i]));
    if (!(wrong <= worst)) worst = wrong;
    if (std::isnan(worst)) return std::numeric_limits<double>::infinity();
  }
  return worst / size;
}

struct Set {
  const char* name;
  FindKernel<float> find_float;
  FindKernel<double> find_double;
};

std::vector<Set> sets_here() {
  std::vector<Set> sets;
#ifdef RNNLAB_X86
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") &&
      __builtin_cpu_supports("avx512vl")) {
    sets.push_back({"avx512", avx512::find_float, avx512::find_double});
  }
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) {
    sets.push_back({"avx2", avx2::find_float, avx2::find_double});
  }
#endif
  sets.push_back({"baseline", baseline::find_float, baseline::find_double});
  return sets;
}

template <class Real>
bool agree(const Problem& problem, const char* set, const Kernel<Real>& kernel,
           const Kernel<Real>& plain, Pool& pool, int64_t threads, double tolerance) {
  Run<Real> expected(problem, plain, pool), found(problem, kernel, pool);
  expected.passes(1);
  found.passes(threads);
  double worst = distance(found.adjoint_values(), expected.adjoint_values());
  int which = -1;
  for (size_t i = 0; i < expected.results().size(); i++) {
    double here = distance(found.results()[i], expected.results()[i]);
    if (!(here <= worst)) worst = here, which = static_cast<int>(i);
  }
  if (worst <= tolerance) return true;
  std::printf("%s, %d bytes, result %d is wrong by %g: %s\n", set, static_cast<int>(sizeof(Real)),
              which, worst, problem.text().c_str());
  return false;
}

bool agree(unsigned number, Pool& pool, int64_t threads) {
  Problem problem(number);
  for (const Set& set : sets_here()) {
    if (!agree(problem, set.name, *set.find_double(problem.options.cell),
               *reference::find_double(problem.options.cell), pool, threads, 1e-12) ||
        !agree(problem, set.name, *set.find_float(problem.options.cell),
               *reference::find_float(problem.options.cell), pool, threads, 1e-4)) {
      return false;
    }
  }
  return true;
}

}  // namespace

int main(int count, char** arguments) {
  if (count < 3) return 2;
  unsigned seed = std::atoi(arguments[1]), networks = std::atoi(arguments[2]);
  Pool pool(3);
  std::atomic<bool> all_agree{true};
  // Two threads that use the same pool: one runs networks side by side, as vmap does, and the other
  // one after the other, each on several threads.
  std::thread other([&] {
    each_network(pool, networks / 2, [&](int64_t k, int64_t threads) {
      if (all_agree && !agree(seed + 6 * static_cast<unsigned>(k), pool, threads))
        all_agree = false;
    });
  });
  for (unsigned i = networks / 2; i < networks && all_agree; i++) {
    if (!agree(seed + 6 * i, pool, pool.num_threads())) all_agree = false;
  }
  other.join();
  if (!all_agree) return 1;
  for (const Set& set : sets_here()) std::printf("%s ", set.name);
  std::printf("agree with the reference on %u networks\n", networks);
  return 0;
}
