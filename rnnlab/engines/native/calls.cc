// The functions that XLA calls, and what Python asks the library for.
#include <cstring>
#include <exception>

#include "arrays.h"
#include "networks.h"

namespace ffi = xla::ffi;

namespace rnnlab {
namespace {

// ---- The instruction set ----

struct Set {
  const char* name;
  FindKernel<float> find_float;
  FindKernel<double> find_double;
};

// From the fastest to the slowest. ``reference`` is the plain one, for tests.
const Set kSets[] = {
#ifdef RNNLAB_X86
    {"avx512", avx512::find_float, avx512::find_double},
    {"avx2", avx2::find_float, avx2::find_double},
#endif
    {"baseline", baseline::find_float, baseline::find_double},
    {"reference", reference::find_float, reference::find_double},
};

bool runs_here(const Set& set) {
#ifdef RNNLAB_X86
  if (!std::strcmp(set.name, "avx512")) {
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("fma");
  }
  if (!std::strcmp(set.name, "avx2")) {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  }
#endif
  (void)set;
  return true;
}

const Set* g_set = nullptr;

const Kernel<float>* find(CellKind cell, float) { return g_set->find_float(cell); }
const Kernel<double>* find(CellKind cell, double) { return g_set->find_double(cell); }

// Throws std::invalid_argument.
template <class Real>
const Kernel<Real>& kernel_of(CellKind cell) {
  const Kernel<Real>* kernel = find(cell, Real{});
  if (!kernel) throw std::invalid_argument("the native engine has no such cell");
  return *kernel;
}

// ---- The arrays ----

// A call: its arrays by number, once they are checked.
template <class Real>
class Call {
 public:
  Call(Options options, ffi::RemainingArgs args, ffi::RemainingRets rets)
      : options_(options), args_(args), rets_(rets), kernel_(kernel_of<Real>(options.cell)) {
    auto xs = args_.get<ffi::AnyBuffer>(0);
    if (!xs.has_value() || xs->dimensions().size() < 3) {
      throw std::invalid_argument("the native engine needs an array [T, B, I] first");
    }
    auto shape = xs->dimensions();
    size_t lead = shape.size() - 3;
    networks_ = Lengths(shape.begin(), shape.begin() + lead);
    sizes_ = {shape[lead], shape[lead + 1], shape[lead + 2], 0};
    // An axis of 1 in xs may be longer in other arrays.
    for (size_t i = 0; i < args_.size(); i++) widen(*args_.get<ffi::AnyBuffer>(i));
  }

  // Checks the next argument or result.
  Checked argument(const Expected& expected) {
    return Checked(expected, *args_.get<ffi::AnyBuffer>(next_argument_++), networks_, dtype());
  }
  Checked result(const Expected& expected) {
    auto buffer = rets_.get<ffi::AnyBuffer>(next_result_++);
    Checked checked(expected, **buffer, networks_, dtype(), true);
    prefer_huge_pages(checked.data(), checked.bytes());
    return checked;
  }
  void check_counts(size_t arguments, size_t results) const {
    if (args_.size() != arguments || rets_.size() != results) {
      throw std::invalid_argument("the native engine was called with other arrays than it expects");
    }
  }

  // The length of an axis of an argument, counted behind the axes of vmap.
  int64_t length(size_t argument, size_t axis) const {
    auto buffer = args_.get<ffi::AnyBuffer>(argument);
    size_t index = networks_.size() + axis;
    if (!buffer.has_value() || buffer->dimensions().size() <= index) {
      throw std::invalid_argument("the native engine was called with other arrays than it expects");
    }
    return buffer->dimensions()[index];
  }
  // T, B and I of the first argument; H is that of the caller.
  Sizes sizes(int64_t units) const { return {sizes_.steps, sizes_.batch, sizes_.inputs, units}; }

  int64_t network_count() const {
    int64_t count = 1;
    for (int64_t length : networks_) count *= length;
    return count;
  }
  const Lengths& networks() const { return networks_; }
  const Sizes& sizes() const { return sizes_; }
  const Options& options() const { return options_; }
  const Kernel<Real>& kernel() const { return kernel_; }
  const Counts& counts() const { return kernel_.counts; }

 private:
  static ffi::DataType dtype() {
    return sizeof(Real) == 4 ? ffi::DataType::F32 : ffi::DataType::F64;
  }
  void widen(const ffi::AnyBuffer& buffer) {
    auto shape = buffer.dimensions();
    for (size_t axis = 0; axis < networks_.size() && axis < shape.size(); axis++) {
      if (networks_[axis] == 1) networks_[axis] = shape[axis];
    }
  }

  Options options_;
  ffi::RemainingArgs args_;
  ffi::RemainingRets rets_;
  const Kernel<Real>& kernel_;
  Sizes sizes_;
  Lengths networks_;
  size_t next_argument_ = 0, next_result_ = 0;
};

// The arguments that both passes begin with.
template <class Real>
struct Inputs {
  Checked xs, h0, c0, w_x, w_h, bias, valid, resets, reset_h, reset_c;
  const Lengths& networks;
  Network<Real> common;

  explicit Inputs(Call<Real>& call) : Inputs(call, call.sizes(call.length(4, 0)), call.counts()) {}

  Network<Real> of(int64_t k) const {
    Network<Real> n = common;
    n.xs = xs.of<Real>(k, networks);
    n.h0 = h0.of<Real>(k, networks), n.c0 = c0.of<Real>(k, networks);
    n.w_x = w_x.of<Real>(k, networks), n.w_h = w_h.of<Real>(k, networks);
    n.bias = bias.of<Real>(k, networks);
    n.valid = valid.of<uint8_t>(k, networks), n.resets = resets.of<uint8_t>(k, networks);
    n.reset_h = reset_h.of<Real>(k, networks), n.reset_c = reset_c.of<Real>(k, networks);
    return n;
  }

 private:
  Inputs(Call<Real>& call, Sizes s, Counts g)
      : xs(call.argument({"xs", {s.steps, s.batch, s.inputs}})),
        h0(call.argument({"the first h", {s.batch, s.units}})),
        c0(call.argument({"the first c", {s.batch, s.units}, Kind::kNumbers, !g.has_c})),
        w_x(call.argument({"w_x", {s.inputs, (g.joint + g.input) * s.units}})),
        w_h(call.argument({"w_h", {s.units, (g.joint + g.hidden) * s.units}})),
        bias(call.argument({"the bias", {g.gates() * s.units}})),
        valid(call.argument({"the valid steps", {s.steps, s.batch}, Kind::kFlags, true})),
        resets(call.argument({"the resets", {s.steps, s.batch}, Kind::kFlags, true})),
        reset_h(call.argument({"h after a reset", {s.batch, s.units}, Kind::kNumbers, true})),
        reset_c(call.argument({"c after a reset", {s.batch, s.units}, Kind::kNumbers, true})),
        networks(call.networks()),
        common{} {
    if (resets.present() && (!reset_h.present() || (g.has_c && !reset_c.present()))) {
      throw std::invalid_argument("the native engine needs the state after a reset");
    }
    common.sizes = s;
    common.options = call.options();
  }
};

// ---- The passes ----

struct Forward {
  template <class Real>
  static void run(ffi::ThreadPool& pool, const Options& options, ffi::RemainingArgs args,
                  ffi::RemainingRets rets) {
    Call<Real> call(options, args, rets);
    call.check_counts(10, 5);
    Inputs<Real> inputs(call);
    Sizes s = inputs.common.sizes;
    bool has_c = call.counts().has_c;
    Checked hs = call.result({"hs", {s.steps, s.batch, s.units}});
    Checked h = call.result({"the last h", {s.batch, s.units}});
    Checked c = call.result({"the last c", {s.batch, s.units}, Kind::kNumbers, !has_c});
    Checked cs = call.result({"cs", {s.steps, s.batch, s.units}, Kind::kNumbers, true});
    Checked gates =
        call.result({"the gates", {s.steps, s.batch, call.kernel().kept(s)}, Kind::kNumbers, true});
    each_network(pool, call.network_count(), [&](int64_t k, int64_t threads) {
      Network<Real> n = inputs.of(k);
      n.hs = hs.of<Real>(k, call.networks());
      Real* last_c = c.of<Real>(k, call.networks());
      Real* all_c = cs.of<Real>(k, call.networks());
      n.only_final_c = !all_c;
      n.cs = all_c ? all_c : last_c;
      n.gates = gates.of<Real>(k, call.networks());
      run_forward(pool, call.kernel(), n, threads);
      int64_t last = options.reverse ? 0 : (s.steps - 1) * s.batch * s.units;
      // Without steps the last state is the first.
      size_t bytes = s.batch * s.units * sizeof(Real);
      std::memcpy(h.of<Real>(k, call.networks()), s.steps ? n.hs + last : n.h0, bytes);
      if (all_c) std::memcpy(last_c, s.steps ? all_c + last : n.c0, bytes);
    });
  }
};

struct Backward {
  template <class Real>
  static void run(ffi::ThreadPool& pool, const Options& options, ffi::RemainingArgs args,
                  ffi::RemainingRets rets) {
    Call<Real> call(options, args, rets);
    call.check_counts(17, 8);
    Inputs<Real> in(call);
    Sizes s = in.common.sizes;
    Counts g = call.counts();
    const Lengths states = {s.steps, s.batch, s.units}, state = {s.batch, s.units};
    Checked hs = call.argument({"hs", states});
    Checked cs = call.argument({"cs", states, Kind::kNumbers, !g.has_c});
    Checked gates = call.argument(
        {"the gates", {s.steps, s.batch, call.kernel().kept(s)}, Kind::kNumbers, true});
    Checked d_hs = call.argument({"the derivative of hs", states});
    Checked d_h = call.argument({"the derivative of the last h", state});
    Checked d_c = call.argument({"the derivative of the last c", state, Kind::kNumbers, !g.has_c});
    Checked d_cs = call.argument({"the derivative of cs", states, Kind::kNumbers, true});
    Checked d_xs =
        call.result({"the derivative of xs", {s.steps, s.batch, s.inputs}, Kind::kNumbers, true});
    Checked d_h0 = call.result({"the derivative of the first h", state});
    Checked d_c0 = call.result({"the derivative of the first c", state, Kind::kNumbers, !g.has_c});
    bool resets = in.resets.present();
    Checked d_reset_h =
        call.result({"the derivative of h after a reset", state, Kind::kNumbers, !resets});
    Checked d_reset_c = call.result(
        {"the derivative of c after a reset", state, Kind::kNumbers, !(resets && g.has_c)});
    Checked d_w_x =
        call.result({"the derivative of w_x", {s.inputs, (g.joint + g.input) * s.units}});
    Checked d_w_h =
        call.result({"the derivative of w_h", {s.units, (g.joint + g.hidden) * s.units}});
    Checked d_bias = call.result({"the derivative of the bias", {g.gates() * s.units}});
    each_network(pool, call.network_count(), [&](int64_t k, int64_t threads) {
      const Lengths& networks = call.networks();
      Network<Real> n = in.of(k);
      n.hs = hs.of<Real>(k, networks), n.cs = cs.of<Real>(k, networks);
      n.gates = gates.of<Real>(k, networks);
      n.d_hs = d_hs.of<Real>(k, networks), n.d_cs = d_cs.of<Real>(k, networks);
      n.d_h = d_h.of<Real>(k, networks), n.d_c = d_c.of<Real>(k, networks);
      n.d_xs = d_xs.of<Real>(k, networks);
      n.d_h0 = d_h0.of<Real>(k, networks), n.d_c0 = d_c0.of<Real>(k, networks);
      n.d_reset_h = d_reset_h.of<Real>(k, networks), n.d_reset_c = d_reset_c.of<Real>(k, networks);
      n.d_w_x = d_w_x.of<Real>(k, networks), n.d_w_h = d_w_h.of<Real>(k, networks);
      n.d_bias = d_bias.of<Real>(k, networks);
      run_backward(pool, call.kernel(), n, threads);
    });
  }
};

struct Adjoints {
  template <class Real>
  static void run(ffi::ThreadPool& pool, const Options& options, ffi::RemainingArgs args,
                  ffi::RemainingRets rets) {
    Call<Real> call(options, args, rets);
    call.check_counts(13, 7);
    Counts g = call.counts();
    // The first argument is [n, B, H].
    int64_t steps = call.sizes().steps, batch = call.sizes().batch, units = call.sizes().inputs;
    Sizes s = {steps, batch, 0, units};
    const Lengths states = {steps, batch, units}, state = {batch, units};
    auto argument = [&](const char* name, Lengths shape, bool optional = false) {
      return call.argument({name, shape, Kind::kNumbers, optional});
    };
    Checked old_h = argument("the old h", states), old_c = argument("the old c", states, !g.has_c);
    Checked hs = argument("hs", states), cs = argument("cs", states, !g.has_c);
    Checked kept = argument("the gates", {steps, batch, call.kernel().kept(s)});
    Checked w_h = argument("w_h", {units, (g.joint + g.hidden) * units});
    Checked valid = call.argument({"the valid steps", {steps, batch}, Kind::kFlags, true});
    Checked resets = call.argument({"the resets", {steps, batch}, Kind::kFlags, true});
    Checked entering = argument("the derivative of the outputs", states);
    Checked entering_exponent = call.argument({"its exponents", {steps, batch}, Kind::kIntegers});
    Checked d_h = argument("the adjoint h", state),
            d_c = argument("the adjoint c", state, !g.has_c);
    Checked exponent = call.argument({"its exponents", {batch}, Kind::kIntegers});
    Checked adjoint_h = call.result({"the adjoints h", states});
    Checked adjoint_c = call.result({"the adjoints c", states, Kind::kNumbers, !g.has_c});
    Checked exponents = call.result({"their exponents", {steps, batch}, Kind::kIntegers});
    Checked deltas = call.result({"the deltas", {steps, batch, g.gates() * units}});
    Checked first_h = call.result({"the first adjoint h", state});
    Checked first_c = call.result({"the first adjoint c", state, Kind::kNumbers, !g.has_c});
    Checked first_exponent = call.result({"its exponents", {batch}, Kind::kIntegers});
    each_network(pool, call.network_count(), [&](int64_t k, int64_t threads) {
      const Lengths& networks = call.networks();
      AdjointSteps<Real> n = {};
      n.sizes = s, n.options = options;
      n.old_h = old_h.of<Real>(k, networks), n.old_c = old_c.of<Real>(k, networks);
      n.hs = hs.of<Real>(k, networks), n.cs = cs.of<Real>(k, networks);
      n.gates = kept.of<Real>(k, networks), n.w_h = w_h.of<Real>(k, networks);
      n.valid = valid.of<uint8_t>(k, networks), n.resets = resets.of<uint8_t>(k, networks);
      n.g = entering.of<Real>(k, networks);
      n.g_exponent = entering_exponent.of<int32_t>(k, networks);
      n.d_h = d_h.of<Real>(k, networks), n.d_c = d_c.of<Real>(k, networks);
      n.exponent = exponent.of<int32_t>(k, networks);
      n.adjoint_h = adjoint_h.of<Real>(k, networks), n.adjoint_c = adjoint_c.of<Real>(k, networks);
      n.exponents = exponents.of<int32_t>(k, networks), n.deltas = deltas.of<Real>(k, networks);
      n.first_h = first_h.of<Real>(k, networks), n.first_c = first_c.of<Real>(k, networks);
      n.first_exponent = first_exponent.of<int32_t>(k, networks);
      run_adjoints(pool, call.kernel(), n, threads);
    });
  }
};

// A call by XLA. No exception leaves the library: XLA gets each as an error.
template <class Pass>
ffi::Error guarded(ffi::ThreadPool pool, ffi::RemainingArgs args, ffi::RemainingRets rets,
                   int64_t cell, int64_t activation, double alpha, bool reverse, bool doubles) {
  try {
    if (!g_set) return ffi::Error::Internal("the native engine was not set up");
    Options options = {static_cast<CellKind>(cell), static_cast<Activation>(activation), alpha,
                       reverse};
    doubles ? Pass::template run<double>(pool, options, args, rets)
            : Pass::template run<float>(pool, options, args, rets);
    return ffi::Error::Success();
  } catch (const std::invalid_argument& fault) {
    return ffi::Error::InvalidArgument(fault.what());
  } catch (const std::bad_alloc&) {
    return ffi::Error(ffi::ErrorCode::kResourceExhausted, "the native engine is out of memory");
  } catch (const std::exception& fault) {
    return ffi::Error::Internal(fault.what());
  }
}

}  // namespace
}  // namespace rnnlab

#pragma GCC visibility push(default)

#define RNNLAB_BINDING             \
  ffi::Ffi::Bind()                 \
      .Ctx<ffi::ThreadPool>()      \
      .RemainingArgs()             \
      .RemainingRets()             \
      .Attr<int64_t>("cell")       \
      .Attr<int64_t>("activation") \
      .Attr<double>("alpha")       \
      .Attr<bool>("reverse")       \
      .Attr<bool>("doubles")

XLA_FFI_DEFINE_HANDLER_SYMBOL(rnnlab_forward, rnnlab::guarded<rnnlab::Forward>, RNNLAB_BINDING);
XLA_FFI_DEFINE_HANDLER_SYMBOL(rnnlab_backward, rnnlab::guarded<rnnlab::Backward>, RNNLAB_BINDING);
XLA_FFI_DEFINE_HANDLER_SYMBOL(rnnlab_adjoints, rnnlab::guarded<rnnlab::Adjoints>, RNNLAB_BINDING);

extern "C" {

// A digest of the sources that the library was built from.
const char* rnnlab_sources() { return RNNLAB_SOURCES; }

// The version of XLA's interface that it was built with.
int rnnlab_ffi_major() { return XLA_FFI_API_MAJOR; }
int rnnlab_ffi_minor() { return XLA_FFI_API_MINOR; }

// Chooses an instruction set by name, or the fastest for null; returns its name, null where this
// machine or this library does not have it.
const char* rnnlab_use(const char* name) {
  for (const rnnlab::Set& set : rnnlab::kSets) {
    if (name && std::strcmp(set.name, name)) continue;
    if (!rnnlab::runs_here(set)) continue;
    rnnlab::g_set = &set;
    return set.name;
  }
  return nullptr;
}

// The name of the i-th set that runs on this machine; null beyond the last.
const char* rnnlab_set(int index) {
  for (const rnnlab::Set& set : rnnlab::kSets) {
    if (rnnlab::runs_here(set) && index-- == 0) return set.name;
  }
  return nullptr;
}

// Numbers that a cell keeps for one step and example; the layout of the gates is the kernel's own.
int64_t rnnlab_kept(int64_t cell, int64_t units, int doubles) {
  rnnlab::Sizes sizes = {1, 1, 1, units};
  auto kind = static_cast<rnnlab::CellKind>(cell);
  return doubles ? rnnlab::kernel_of<double>(kind).kept(sizes)
                 : rnnlab::kernel_of<float>(kind).kept(sizes);
}
}

#pragma GCC visibility pop
