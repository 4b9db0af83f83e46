#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "state/format.h"
#include "state/snapshot_io.h"
#include "state/visitor.h"

namespace doppel::state {

/// A component's state as data: what inspect(), diff() and schema() work on.
struct Node {
  unsigned number = 0;
  std::string name;
  format::Kind kind = format::Kind::Record;
  std::uint64_t bits = 0;        ///< a scalar's value, sign-extended
  std::vector<std::byte> bytes;  ///< Bytes, Blob and Text
  std::vector<Node> children;    ///< of a Record

  bool is_scalar() const { return kind <= format::Kind::LastScalar; }
  ScalarType scalar_type() const { return static_cast<ScalarType>(kind); }
  /// A record that an array was described as: its children are [0], [1] …
  bool is_array() const;
};

/// The root is a record without a name.
Node make_tree(const DescribeFunction& describe);

/// A scalar in decimal, bytes in hexadecimal, text with whatever a terminal or JSON would choke on escaped.
std::string value_text(const Node& node);
std::string hex(std::span<const std::byte> bytes);

}  // namespace doppel::state
