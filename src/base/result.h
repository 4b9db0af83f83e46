#pragma once

#include <optional>
#include <string>
#include <utility>
#include <variant>

namespace doppel {

/// What went wrong, where, and what to do about it: one sentence that is printed to the user as it stands.
struct Error {
  std::string message;
  /// The host lacks something: memory, a permission, a device. Otherwise it is what was asked for that cannot be.
  bool of_host = false;
};

/// A value or the Error that kept it from being made. Cheap to return, impossible to ignore.
///
///     Result<Kernel> kernel = load(path);
///     if (!kernel) return kernel.error();
///     use(*kernel);
template <class T>
class [[nodiscard]] Result {
 public:
  Result(T value) : storage_(std::in_place_index<0>, std::move(value)) {}      // NOLINT(google-explicit-constructor)
  Result(Error error) : storage_(std::in_place_index<1>, std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return storage_.index() == 0; }
  explicit operator bool() const { return ok(); }

  T& value() & { return std::get<0>(storage_); }
  const T& value() const& { return std::get<0>(storage_); }
  T&& value() && { return std::get<0>(std::move(storage_)); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }

  const Error& error() const { return std::get<1>(storage_); }

 private:
  std::variant<T, Error> storage_;
};

/// The outcome of work that makes no value.
template <>
class [[nodiscard]] Result<void> {
 public:
  Result() = default;
  Result(Error error) : error_(std::move(error)) {}  // NOLINT(google-explicit-constructor)

  bool ok() const { return !error_.has_value(); }
  explicit operator bool() const { return ok(); }
  const Error& error() const { return *error_; }

 private:
  std::optional<Error> error_;
};

}  // namespace doppel
