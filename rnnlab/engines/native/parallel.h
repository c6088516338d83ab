// Work on the threads of a pool (XLA's own), and memory that a thread keeps between calls.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <new>

#ifdef __linux__
#include <sys/mman.h>
#endif

namespace rnnlab {

constexpr size_t kHugePage = size_t{1} << 21;

// Asks for large pages: the first touch of many small ones costs more than the arithmetic on them.
inline void prefer_huge_pages([[maybe_unused]] void* data, [[maybe_unused]] size_t bytes) {
#ifdef __linux__
  uintptr_t begin = (reinterpret_cast<uintptr_t>(data) + 4095) & ~uintptr_t{4095};
  uintptr_t end = (reinterpret_cast<uintptr_t>(data) + bytes) & ~uintptr_t{4095};
  if (end > begin + kHugePage) {
    madvise(reinterpret_cast<void*>(begin), end - begin, MADV_HUGEPAGE);
  }
#endif
}

// Memory of one thread, which grows and is kept: no call pays for fresh pages twice.
class Arena {
 public:
  Arena() = default;
  Arena(const Arena&) = delete;
  ~Arena() { std::free(data_); }

  // Throws std::bad_alloc.
  void* get(size_t bytes) {
    if (bytes > bytes_) {
      std::free(data_);
      bytes_ = 0;
      size_t rounded = (bytes + kHugePage - 1) / kHugePage * kHugePage;
      data_ = std::aligned_alloc(kHugePage, rounded);
      if (!data_) throw std::bad_alloc();
      bytes_ = rounded;
      prefer_huge_pages(data_, rounded);
    }
    return data_;
  }

 private:
  void* data_ = nullptr;
  size_t bytes_ = 0;
};

// body(part) for every part below ``parts``, on the pool and on the calling thread. The caller
// takes parts too, so the work ends even where no other thread is free. Rethrows what a body
// throws.
template <class Pool, class Body>
void parallel(Pool& pool, int64_t parts, int64_t threads, const Body& body) {
  struct Shared {
    std::atomic<int64_t> next{0};
    int64_t done = 0;
    std::exception_ptr fault;
    std::mutex mutex;
    std::condition_variable all_done;
  };
  // Owned by all tasks: one may start after everything is done, and this function has returned.
  auto shared = std::make_shared<Shared>();
  auto work = [shared, parts, &body] {
    int64_t finished = 0;
    std::exception_ptr fault;
    for (int64_t part; (part = shared->next++) < parts; finished++) {
      try {
        body(part);
      } catch (...) {
        fault = std::current_exception();
      }
    }
    if (finished == 0) return;
    std::lock_guard<std::mutex> lock(shared->mutex);
    shared->done += finished;
    if (fault) shared->fault = fault;
    if (shared->done == parts) shared->all_done.notify_all();
  };
  for (int64_t i = 1; i < threads && i < parts; i++) pool.Schedule(decltype(work)(work));
  work();
  std::unique_lock<std::mutex> lock(shared->mutex);
  shared->all_done.wait(lock, [&] { return shared->done == parts; });
  if (shared->fault) std::rethrow_exception(shared->fault);
}

}  // namespace rnnlab
