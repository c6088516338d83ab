// The arrays of a call: every shape and dtype is checked before a pointer is read.
#pragma once

#include <sstream>
#include <stdexcept>
#include <string>
#include <vector>

#include "xla/ffi/api/ffi.h"

namespace rnnlab {

using Lengths = std::vector<int64_t>;

inline std::string to_text(const Lengths& shape) {
  std::ostringstream text;
  text << "[";
  for (size_t i = 0; i < shape.size(); i++) text << (i ? ", " : "") << shape[i];
  text << "]";
  return text.str();
}

enum class Kind { kNumbers, kFlags, kIntegers };

// What an array should be.
struct Expected {
  std::string name;
  Lengths shape;  // of one network
  Kind kind = Kind::kNumbers;
  bool optional = false;  // may be empty, which is what [0] stands for
};

// An array with the axes of vmap in front. An axis of 1 is shared by all networks.
class Checked {
 public:
  // Throws std::invalid_argument.
  Checked(const Expected& expected, xla::ffi::AnyBuffer buffer, const Lengths& networks,
          xla::ffi::DataType dtype, bool result = false)
      : data_(buffer.untyped_data()) {
    auto dimensions = buffer.dimensions();
    Lengths shape(dimensions.begin(), dimensions.end());
    auto wanted = expected.kind == Kind::kFlags      ? xla::ffi::DataType::PRED
                  : expected.kind == Kind::kIntegers ? xla::ffi::DataType::S32
                                                     : dtype;
    if (buffer.element_type() != wanted)
      refuse(expected, shape, "has the wrong dtype; its shape should be");
    if (shape.size() < networks.size()) refuse(expected, shape, "should be");
    Lengths own(shape.begin() + networks.size(), shape.end());
    present_ = !(expected.optional && own == Lengths{0});
    if (present_ && own != expected.shape) refuse(expected, shape, "should be");
    size_ = 1;
    for (int64_t length : own) size_ *= length;
    element_bytes_ = size_ == 0 ? 0 : bytes_of(wanted);
    for (size_t axis = 0; axis < networks.size(); axis++) {
      bool shared = shape[axis] == 1 && !result;
      if (shape[axis] != networks[axis] && !shared) {
        refuse(expected, shape, "is for another number of networks; for one it should be");
      }
      lengths_.push_back(shape[axis]);
    }
  }

  bool present() const { return present_; }

  // The part of one network; null where the array is absent.
  template <class T>
  T* of(int64_t network, const Lengths& networks) const {
    if (!present_) return nullptr;
    int64_t index = 0, stride = 1;
    for (size_t axis = networks.size(); axis-- > 0;) {
      if (lengths_[axis] > 1) index += network % networks[axis] * stride;
      stride *= lengths_[axis];
      network /= networks[axis];
    }
    return static_cast<T*>(data_) + index * size_;
  }

  size_t bytes() const {
    int64_t count = size_;
    for (int64_t length : lengths_) count *= length;
    return count * element_bytes_;
  }
  void* data() const { return data_; }

 private:
  static int64_t bytes_of(xla::ffi::DataType dtype) {
    return dtype == xla::ffi::DataType::PRED ? 1 : dtype == xla::ffi::DataType::F64 ? 8 : 4;
  }
  [[noreturn]] static void refuse(const Expected& expected, const Lengths& shape,
                                  const char* what) {
    throw std::invalid_argument("the native engine: " + expected.name + " " + to_text(shape) + " " +
                                what + " " + to_text(expected.shape));
  }

  void* data_;
  bool present_;
  int64_t size_;  // numbers of one network
  int64_t element_bytes_;
  Lengths lengths_;  // of the axes of networks
};

}  // namespace rnnlab
