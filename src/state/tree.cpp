#include "state/tree.h"

#include <fmt/format.h>

#include <algorithm>

namespace doppel::state {
namespace {

class TreeBuilder : public Visitor {
 public:
  TreeBuilder() { open_.emplace_back(); }
  Node take() { return std::move(open_.back()); }

 protected:
  void scalar(unsigned number, std::string_view name, ScalarType type, std::uint64_t& bits) override {
    add(number, name, format::kind_of(type)).bits = bits;
  }
  void bytes(unsigned number, std::string_view name, std::span<std::byte> value) override {
    add(number, name, format::Kind::Bytes).bytes.assign(value.begin(), value.end());
  }
  void blob(unsigned number, std::string_view name, std::vector<std::byte>& value) override {
    add(number, name, format::Kind::Blob).bytes = value;
  }
  void text(unsigned number, std::string_view name, std::string& value) override {
    const auto content = std::as_bytes(std::span{value});
    add(number, name, format::Kind::Text).bytes.assign(content.begin(), content.end());
  }
  void begin_record(unsigned number, std::string_view name) override {
    Node node;
    node.number = number;
    node.name = name;
    open_.push_back(std::move(node));
  }
  void end_record() override {
    Node done = std::move(open_.back());
    open_.pop_back();
    open_.back().children.push_back(std::move(done));
  }

 private:
  Node& add(unsigned number, std::string_view name, format::Kind kind) {
    Node& node = open_.back().children.emplace_back();
    node.number = number;
    node.name = name;
    node.kind = kind;
    return node;
  }

  std::vector<Node> open_;  ///< from the root to the innermost record
};

}  // namespace

bool Node::is_array() const {
  return !children.empty() && children.front().name == "[0]";
}

Node make_tree(const DescribeFunction& describe) {
  TreeBuilder builder;
  describe(builder);
  return builder.take();
}

std::string hex(std::span<const std::byte> bytes) {
  std::string text;
  text.reserve(bytes.size() * 2);
  for (const std::byte byte : bytes) fmt::format_to(std::back_inserter(text), "{:02x}", static_cast<unsigned>(byte));
  return text;
}

std::string value_text(const Node& node) {
  if (node.is_scalar()) {
    if (node.scalar_type() == ScalarType::Bool) return node.bits != 0 ? "true" : "false";
    return format::is_signed(node.scalar_type()) ? std::to_string(static_cast<std::int64_t>(node.bits))
                                                 : std::to_string(node.bits);
  }
  if (node.kind != format::Kind::Text) return hex(node.bytes);
  std::string text;
  for (const std::byte byte : node.bytes) {
    const auto character = static_cast<char>(byte);
    if (character >= ' ' && character <= '~') {
      text += character;
    } else {
      fmt::format_to(std::back_inserter(text), "\\x{:02x}", static_cast<unsigned>(byte));
    }
  }
  return text;
}

}  // namespace doppel::state
