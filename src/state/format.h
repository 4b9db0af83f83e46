#pragma once

#include <cstddef>
#include <cstdint>

#include "state/visitor.h"

/// Saved state: a sequence of fields, each a header and a payload, all little-endian.
///
///     u32 number | u8 kind | u32 length | length bytes of payload
///
/// A scalar's payload is its value in its own width, a record's is a sequence of fields, the others' their bytes.
namespace doppel::state::format {

/// Scalars have the values of ScalarType.
enum class Kind : std::uint8_t {
  LastScalar = static_cast<std::uint8_t>(ScalarType::I64),
  Bytes = 16,
  Blob,
  Text,
  Record
};

constexpr Kind kind_of(ScalarType type) {
  return static_cast<Kind>(type);
}

constexpr std::size_t scalar_size(ScalarType type) {
  switch (type) {
    case ScalarType::Bool:
    case ScalarType::U8:
    case ScalarType::I8:
      return 1;
    case ScalarType::U16:
    case ScalarType::I16:
      return 2;
    case ScalarType::U32:
    case ScalarType::I32:
      return 4;
    case ScalarType::U64:
    case ScalarType::I64:
      break;
  }
  return 8;
}

constexpr bool is_signed(ScalarType type) {
  return type >= ScalarType::I8;
}

inline constexpr std::size_t kHeaderSize = 9;

}  // namespace doppel::state::format
