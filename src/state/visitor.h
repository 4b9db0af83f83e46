#pragma once

#include <fmt/format.h>

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "base/bits.h"
#include "base/ring.h"

/// State is described once. A component writes one function,
///
///     void Uart::describe(state::Visitor& v) {
///       v.field(1, "ier", ier_);
///       v.field(2, "lcr", lcr_);
///       v.on_loaded([this] { update_irq(); });
///     }
///
/// and that function saves, loads, prints, compares and hashes the schema, depending on the Visitor that it is given.
/// Field numbers identify a field for ever: never reused, never renumbered. Names are for people only.
namespace doppel::state {

class Visitor;

template <class T>
concept Describable = requires(T& value, Visitor& visitor) {
  value.describe(visitor);
};

template <class T>
concept Scalar = std::integral<T> || std::is_enum_v<T>;

/// How a scalar is kept; part of the schema.
enum class ScalarType : std::uint8_t { Bool, U8, U16, U32, U64, I8, I16, I32, I64 };

template <Scalar T>
constexpr ScalarType scalar_type() {
  if constexpr (std::is_same_v<T, bool>) {
    return ScalarType::Bool;
  } else if constexpr (std::is_enum_v<T>) {
    return scalar_type<std::underlying_type_t<T>>();
  } else if constexpr (std::is_signed_v<T>) {
    return sizeof(T) == 1   ? ScalarType::I8
           : sizeof(T) == 2 ? ScalarType::I16
           : sizeof(T) == 4 ? ScalarType::I32
                            : ScalarType::I64;
  } else {
    return sizeof(T) == 1   ? ScalarType::U8
           : sizeof(T) == 2 ? ScalarType::U16
           : sizeof(T) == 4 ? ScalarType::U32
                            : ScalarType::U64;
  }
}

/// What a described component talks to. Not thread-safe; the component must be quiescent (its VM paused).
class Visitor {
 public:
  virtual ~Visitor() = default;

  /// True while values are being replaced by loaded ones.
  virtual bool is_loading() const { return false; }

  /// Work to do after the whole machine is loaded (recompute derived state, re-arm timers, raise lines again).
  /// Ignored by visitors that do not load. Runs in the order of registration.
  virtual void on_loaded(std::function<void()> action);

  /// What must hold of loaded values: false makes the load fail, with `what` as the reason, and the state as it was.
  /// For every value that could break its component: an index, a count, an enumerator (a snapshot is hostile input).
  /// Ignored by visitors that do not load. Until describe() returns, the component may hold the refused value.
  virtual void require(bool condition, std::string_view what);

  template <Scalar T>
  void field(unsigned number, std::string_view name, T& value) {
    std::uint64_t bits = 0;
    if constexpr (std::is_enum_v<T>) {
      bits = static_cast<std::uint64_t>(static_cast<std::underlying_type_t<T>>(value));
    } else {
      bits = static_cast<std::uint64_t>(value);
    }
    const std::uint64_t before = bits;
    scalar(number, name, scalar_type<T>(), bits);
    if (bits != before) value = static_cast<T>(bits);
  }

  template <Scalar T, std::size_t N>
  void field(unsigned number, std::string_view name, std::array<T, N>& values) {
    begin_record(number, name);
    for (std::size_t i = 0; i < N; ++i) field(static_cast<unsigned>(i + 1), index_name(i), values[i]);
    end_record();
  }

  /// Bytes of fixed length.
  void field(unsigned number, std::string_view name, std::span<std::byte> value) { bytes(number, name, value); }
  /// Bytes of any length.
  void field(unsigned number, std::string_view name, std::vector<std::byte>& value) { blob(number, name, value); }
  void field(unsigned number, std::string_view name, std::string& value) { text(number, name, value); }

  /// The elements from the oldest on.
  template <Scalar T, std::size_t N>
  void field(unsigned number, std::string_view name, Ring<T, N>& ring) {
    std::vector<std::byte> elements(ring.size() * sizeof(T));
    for (std::size_t i = 0; i < ring.size(); ++i) store_le(elements.data() + i * sizeof(T), ring[i]);
    blob(number, name, elements);
    if (!is_loading()) return;
    const bool fits = elements.size() % sizeof(T) == 0 && elements.size() / sizeof(T) <= N;
    require(fits, "a queue is longer than its capacity");
    if (!fits) return;
    ring.clear();
    for (std::size_t i = 0; i < elements.size(); i += sizeof(T)) ring.push(load_le<T>(elements.data() + i));
  }

  template <Describable T>
  void field(unsigned number, std::string_view name, T& value) {
    begin_record(number, name);
    value.describe(*this);
    end_record();
  }

  template <Describable T, std::size_t N>
  void field(unsigned number, std::string_view name, std::array<T, N>& values) {
    begin_record(number, name);
    for (std::size_t i = 0; i < N; ++i) field(static_cast<unsigned>(i + 1), index_name(i), values[i]);
    end_record();
  }

 protected:
  virtual void scalar(unsigned number, std::string_view name, ScalarType type, std::uint64_t& bits) = 0;
  virtual void bytes(unsigned number, std::string_view name, std::span<std::byte> value) = 0;
  virtual void blob(unsigned number, std::string_view name, std::vector<std::byte>& value) = 0;
  virtual void text(unsigned number, std::string_view name, std::string& value) = 0;
  virtual void begin_record(unsigned number, std::string_view name) = 0;
  virtual void end_record() = 0;

 private:
  static std::string index_name(std::size_t index) { return fmt::format("[{}]", index); }
};

}  // namespace doppel::state
